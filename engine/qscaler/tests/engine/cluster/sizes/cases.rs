//! Random templates, rules and sizes against the API server: each container gets a target of its own, with a
//! request that is not above its limit, at birth and in place.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::super::shop::Shop;
use super::MI;
use crate::fixture::{counts, seed};
use crate::world::Random;

/// So many QWorkers are there at once.
const AT_ONCE: usize = 25;

/// No sound machine needs longer for that many.
const PATIENCE: Duration = Duration::from_secs(180);

/// An amount of a resource: millicores, or bytes.
type Amount = u64;

/// What a rule says of one resource of one container.
#[derive(Clone, Copy, Debug)]
struct Said {
    /// The request is this many times the parameter.
    times: u64,
    /// The limit in quarters of the request, if the rule says one.
    quarters: Option<u64>,
    bounds: Option<(Amount, Amount)>,
}

/// One resource of one container.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// The smallest amount that is drawn.
    unit: Amount,
    template: (Option<Amount>, Option<Amount>),
    said: Option<Said>,
}

/// A container: its processor, and its memory.
#[derive(Clone, Copy, Debug)]
struct Container {
    name: &'static str,
    parts: [Part; 2],
}

/// A QWorker and a rule of its own.
#[derive(Debug)]
struct Case {
    name: String,
    containers: Vec<Container>,
    /// The parameters at first, and later.
    sizes: [u64; 2],
    /// Whether the template and the rule keep requests and limits alike throughout.
    is_guaranteed: bool,
}

const RESOURCES: [&str; 2] = ["cpu", "memory"];
/// The name of an init container that ends, and of one that stays.
const FIRST: &str = "first";
const SIDE: &str = "side";

impl Part {
    fn draw(random: &mut Random, unit: Amount, is_guaranteed: bool) -> Self {
        let amount = |random: &mut Random| (1 + random.below(8)) * unit;
        let request = amount(random);
        let larger = request + random.below(8) * unit;
        let template = match random.below(5) {
            _ if is_guaranteed => (Some(request), Some(request)),
            0 => (None, None),
            1 => (Some(request), None),
            2 => (None, Some(request)),
            _ => (Some(request), Some(larger)),
        };
        let said = (random.below(4) > 0).then(|| {
            let bounds = (1 + random.below(8)) * unit;
            Said {
                times: 1 + random.below(5),
                // Also less than the request, which nobody can have.
                quarters: (!is_guaranteed && random.below(2) == 0).then(|| random.pick(&[2, 4, 5, 7, 16])),
                bounds: (random.below(3) == 0).then(|| (bounds, bounds + (1 + random.below(8)) * unit)),
            }
        });
        Self { unit, template, said }
    }

    /// As the rule has it.
    fn rule(&self, resource: &str) -> Option<String> {
        let said = self.said?;
        let written = |amount: Amount| written(resource, amount);
        let parameter = if resource == "cpu" { "cores('5m') * params.cpu" } else { "params.memory" };
        let mut fields = vec![format!("request: {parameter} * {}", said.times)];
        fields.extend(said.quarters.map(|quarters| format!("limit: request * {}", quarters as f64 / 4.0)));
        if let Some((min, max)) = said.bounds {
            fields.extend([format!("min: {}", written(min)), format!("max: {}", written(max))]);
        }
        Some(format!("{resource}: {{{}}}", fields.join(", ")))
    }

    fn template(&self, resource: &str) -> [(&'static str, Option<String>); 2] {
        let (request, limit) = self.template;
        [("requests", request), ("limits", limit)].map(|(of, it)| (of, it.map(|it| written(resource, it))))
    }

    /// What is not as it should be, if anything; `size` is the parameter in units.
    fn check(&self, has: (Option<Amount>, Option<Amount>), size: u64) -> Result<(), String> {
        let Some(said) = self.said else {
            let (request, limit) = self.template;
            let expected = (request.or(limit), limit);
            return if has == expected { Ok(()) } else { Err(format!("{has:?} is not {expected:?}")) };
        };
        let (min, max) = said.bounds.unwrap_or((0, u64::MAX));
        let expected = (size * self.unit * said.times).clamp(min, max);
        let Some(request) = has.0 else { return Err("there is no request".into()) };
        let is_ratio = said.quarters.is_none() && self.template.1.is_some();
        // One unit less where the template's limit is above its request, and the rule's bounds leave none above.
        if request != expected && !(is_ratio && request + 1 == expected) {
            return Err(format!("the request {request} is not {expected}"));
        }
        let expected = match said.quarters {
            Some(quarters) => Some((request * quarters).div_ceil(4).clamp(min, max).max(request)),
            None if self.template.1.is_none() => None,
            None => has.1.filter(|limit| *limit >= request),
        };
        if has.1 == expected { Ok(()) } else { Err(format!("{has:?}, but the limit is to be {expected:?}")) }
    }
}

fn written(resource: &str, amount: Amount) -> String {
    if resource == "cpu" { format!("{amount}m") } else { format!("{}Mi", amount / MI) }
}

impl Case {
    fn draw(random: &mut Random, name: String) -> Self {
        let is_guaranteed = random.below(4) == 0;
        let mut names = vec![];
        names.extend((random.below(2) == 0).then_some(FIRST));
        names.extend((random.below(2) == 0).then_some(SIDE));
        names.extend(["worker", "second", "third"].into_iter().take(1 + random.below(3) as usize));
        let container = |name| Container {
            name,
            parts: [5, 4 * MI].map(|unit| {
                let mut part = Part::draw(random, unit, is_guaranteed);
                if name == "worker" && unit == 5 && !is_guaranteed {
                    // So the pod never is guaranteed: a class that a change would make another one is refused.
                    part.template.1 = None;
                    part.said = part.said.map(|said| Said { quarters: None, ..said });
                }
                part
            }),
        };
        let containers = names.into_iter().map(container).collect();
        let sizes = [1 + random.below(20), 1 + random.below(20)];
        Self { name, containers, sizes, is_guaranteed }
    }

    fn rule(&self) -> String {
        let mut text = format!(
            "apiVersion: qscaler.dev/v1alpha1\nkind: ScalingRule\nmetadata: {{name: {}}}\nspec:\n  \
             params: {{cpu: 1, memory: 4Mi}}\n  replicas: {{desired: 1, max: 1}}\n  resources:\n",
            self.name
        );
        for container in &self.containers {
            let said = container.parts.iter().zip(RESOURCES).filter_map(|(part, name)| part.rule(name));
            let said: Vec<_> = said.map(|line| format!("      {line}\n")).collect();
            if !said.is_empty() {
                text = format!("{text}    - container: {}\n{}", container.name, said.concat());
            }
        }
        text
    }

    fn says_something(&self) -> bool {
        self.containers.iter().any(|container| container.parts.iter().any(|part| part.said.is_some()))
    }

    /// Nothing runs: no machine is called so.
    fn pod_spec(&self) -> Value {
        let mut spec = json!({"nodeSelector": {"kubernetes.io/hostname": "nowhere"}, "containers": []});
        for container in &self.containers {
            let mut resources = json!({"requests": {}, "limits": {}});
            for (part, resource) in container.parts.iter().zip(RESOURCES) {
                for (of, amount) in part.template(resource) {
                    if let Some(amount) = amount {
                        resources[of][resource] = json!(amount);
                    }
                }
            }
            let mut written = json!({
                "name": container.name, "image": "localhost/diarist:test", "resources": resources,
            });
            let mut list = "containers";
            if [FIRST, SIDE].contains(&container.name) {
                list = "initContainers";
                if container.name == SIDE {
                    written["restartPolicy"] = json!("Always");
                }
            }
            let list = spec.as_object_mut().unwrap().entry(list).or_insert_with(|| json!([]));
            list.as_array_mut().unwrap().push(written);
        }
        spec
    }

    /// What of a pod is not as it should be. `sizes` are those of its birth, and of now.
    fn check(&self, pod: &Pod, sizes: [u64; 2]) -> Result<(), String> {
        let spec = pod.spec.as_ref().ok_or("it has no specification")?;
        for container in &self.containers {
            let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            let has = all.find(|it| it.name == container.name).ok_or("a container is missing")?;
            let has = json!(has.resources);
            let size = if container.name == FIRST { sizes[0] } else { sizes[1] };
            for (part, resource) in container.parts.iter().zip(RESOURCES) {
                let amount = |of: &str| read(resource, has[of][resource].as_str()?);
                part.check((amount("requests"), amount("limits")), size)
                    .map_err(|what| format!("{resource} of {}: {what}", container.name))?;
            }
        }
        let class = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
        if self.is_guaranteed && class != Some("Guaranteed") {
            return Err(format!("its quality of service is {class:?}"));
        }
        Ok(())
    }
}

/// Of a rule, where it is to be of this size.
fn params(size: u64) -> Value {
    json!({"cpu": size, "memory": written("memory", size * 4 * MI)})
}

fn read(resource: &str, text: &str) -> Option<Amount> {
    Some(match resource {
        "cpu" => (qscaler_cel::unit::cores(text)? * 1000.0).round() as u64,
        _ => qscaler_cel::unit::bytes(text)? as u64,
    })
}

/// Waits until the pods of all cases are as they should be.
async fn until_right(shop: &Shop, cases: &[Case], sizes: impl Fn(&Case) -> [u64; 2]) {
    let wrong = async |shop: &Shop| {
        let pods = shop.pods().await;
        let problem = |case: &Case| {
            let of = |pod: &&Pod| pod.owner_references().iter().any(|owner| owner.name == case.name);
            let Some(pod) = pods.iter().find(of) else { return Some(format!("{}: no pod", case.name)) };
            let problem = case.check(pod, sizes(case)).err()?;
            Some(format!("{problem}\n{case:?}\n{}", case.rule()))
        };
        cases.iter().find_map(problem)
    };
    let begin = Instant::now();
    while let Some(problem) = wrong(shop).await {
        assert!(begin.elapsed() < PATIENCE, "{problem}\n{}", shop.log("engine"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn every_container_of_random_pods_gets_a_size_that_the_api_server_takes() {
    let shop = Shop::open().await;
    let mut random = Random::new(seed());
    let cases: Vec<_> = std::iter::from_fn(|| Some(Case::draw(&mut random, String::new())))
        .filter(Case::says_something)
        .zip(1..=counts(500))
        .map(|(case, number)| Case { name: format!("case-{number}"), ..case })
        .collect();
    for case in &cases {
        std::fs::write(shop.rules().join(format!("{}.yaml", case.name)), case.rule()).unwrap();
    }
    let engine = shop.engine("engine");
    for cases in cases.chunks(AT_ONCE) {
        for case in cases {
            shop.create(&case.name, 1, |it| {
                it["spec"]["scaleConfig"]["minReplicas"] = json!(1);
                it["spec"]["scaleConfig"]["activateVPA"] = json!(true);
                it["spec"]["rule"] = json!(case.name);
                it["spec"]["params"] = params(case.sizes[0]);
                it["spec"]["podSpec"] = case.pod_spec();
            })
            .await;
        }
        until_right(&shop, cases, |case| [case.sizes[0]; 2]).await;
        for case in cases {
            shop.change(&case.name, json!({"spec": {"params": params(case.sizes[1])}})).await;
        }
        until_right(&shop, cases, |case| case.sizes).await;
        for case in cases {
            shop.qworkers().delete(&case.name, &DeleteParams::default()).await.unwrap();
        }
        shop.until("their pods are gone", async |shop| shop.pods().await.is_empty()).await;
    }
    let wrote = shop.writes("pods").into_iter();
    let (changed, refused): (Vec<_>, Vec<_>) =
        wrote.filter(|it| it.resource == "pods/resize").partition(|it| it.code == 200);
    assert!(refused.is_empty(), "{refused:?}");
    assert!(!shop.log("engine").contains("panicked"), "{}", shop.log("engine"));
    println!("seed {}: {} cases, {} changes in place", seed(), cases.len(), changed.len());
    shop.close(engine).await;
}
