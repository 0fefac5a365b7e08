//! Checks `resources`: expressions over one container.

use std::time::Duration;

use qscaler_cel::{Compiler, Expression, Kind, Scope, Type, unit};

use super::Compilation;
use crate::document::scalar::{self, Expression as Text};
use crate::document::sizing as document;
use crate::problem::{Code, Finding};
use crate::rule::sizing::{AmountRule, Sizing};
use crate::signal::CONTAINER_SIGNALS;
use crate::vertical::{ContainerKind, Resource};

/// In which half of what an OOM floor adds fades, where the rule does not say.
const OOM_HALF_LIFE: Duration = Duration::from_secs(86_400);

/// One resource as it is written.
struct Written<'a> {
    resource: Resource,
    request: &'a Text,
    limit: Option<&'a Text>,
    on_oom: Option<&'a Text>,
    half_life: Duration,
    bounds: (Option<&'a Text>, Option<&'a Text>),
}

impl Compilation {
    /// Checks every entry. `names` are those of the rule's parameters and signals, `lets` its own values.
    pub(super) fn sizings(
        &mut self,
        names: &Scope,
        lets: &[(String, Expression)],
        written: &[document::Sizing],
    ) -> Option<Vec<Sizing>> {
        let mut scope = names.clone();
        for (name, expression) in lets {
            scope.declare(name.clone(), expression.of(), Kind::Let);
        }
        for signal in &CONTAINER_SIGNALS {
            scope.declare(signal.name, signal.of, Kind::Signal);
        }
        let each = written.iter().enumerate();
        let checked: Vec<_> = each.map(|(place, written)| self.sizing(place, &scope, written)).collect();
        checked.into_iter().collect()
    }

    fn sizing(&mut self, place: usize, scope: &Scope, written: &document::Sizing) -> Option<Sizing> {
        let base = format!("/spec/resources/{place}");
        let outer = std::mem::replace(&mut self.compiler, Compiler::new(scope.clone()));
        let lets = self.lets(&format!("{base}/let"), &written.lets);
        let memory = written.memory.as_ref().map(|it| Written {
            resource: Resource::Memory,
            request: &it.request,
            limit: it.limit.as_ref(),
            on_oom: it.on_oom.as_ref(),
            half_life: it.oom_half_life.as_ref().map_or(OOM_HALF_LIFE, scalar::Duration::std),
            bounds: (it.min.as_ref(), it.max.as_ref()),
        });
        let cpu = written.cpu.as_ref().map(|it| Written {
            resource: Resource::Cpu,
            request: &it.request,
            limit: it.limit.as_ref(),
            on_oom: None,
            half_life: OOM_HALF_LIFE,
            bounds: (it.min.as_ref(), it.max.as_ref()),
        });
        let memory = memory.map(|written| self.amounts(&format!("{base}/memory"), &written));
        let cpu = cpu.map(|written| self.amounts(&format!("{base}/cpu"), &written));
        self.compiler.declare_let("target.memory.request", Type::Bytes);
        self.compiler.declare_let("target.cpu.request", Type::Cores);
        let when = written
            .when
            .as_ref()
            .map(|text| self.expression(&format!("{base}/when"), text, Some(Type::Bool)));
        let compiler = std::mem::replace(&mut self.compiler, outer);
        if written.memory.is_none() && written.cpu.is_none() {
            let finding = Finding::error(Code::MissingField, self.place(&base), "this entry says nothing");
            self.findings.push(finding.help("add `memory: {request: ...}` or `cpu: {request: ...}`"));
            return None;
        }
        let container = Some(written.container.clone()).filter(|name| name != "*");
        Some(Sizing {
            kinds: kinds(written, container.is_some()),
            container,
            lets: lets?,
            cpu: optional(cpu)?,
            memory: optional(memory)?,
            when: optional(when)?,
            inputs: compiler.inputs().to_vec(),
        })
    }

    fn amounts(&mut self, base: &str, written: &Written<'_>) -> Option<AmountRule> {
        let resource = written.resource;
        let amount = |compilation: &mut Self, field: &str, text: Option<&Text>| {
            text.map(|text| compilation.amount(&format!("{base}/{field}"), text, resource))
        };
        let request = amount(self, "request", Some(written.request));
        let on_oom = amount(self, "onOom", written.on_oom);
        let (min, max) = (amount(self, "min", written.bounds.0), amount(self, "max", written.bounds.1));
        self.compiler.declare_let("request", type_of(resource));
        let limit = amount(self, "limit", written.limit);
        self.compiler.forget("request");
        if written.half_life.is_zero() {
            let place = self.place(&format!("{base}/oomHalfLife"));
            self.findings.push(
                Finding::error(Code::Value, place, "a half-life is longer than nothing").help("write `24h`"),
            );
        }
        Some(AmountRule {
            request: request??,
            limit: optional(limit)?,
            on_oom: optional(on_oom)?,
            oom_half_life: written.half_life,
            min: optional(min)?,
            max: optional(max)?,
        })
    }

    /// An expression that gives an amount. An amount by itself, `2Gi`, needs no function around it.
    fn amount(&mut self, pointer: &str, text: &Text, resource: Resource) -> Option<Expression> {
        let (plain, function) = match resource {
            Resource::Cpu => (unit::cores(&text.text), "cores"),
            Resource::Memory => (unit::bytes(&text.text), "bytes"),
        };
        let wrapped = || Text { text: format!("{function}('{}')", text.text), literal: false };
        let text = plain.map_or_else(|| text.clone(), |_| wrapped());
        self.expression(pointer, &text, Some(type_of(resource)))
    }
}

fn type_of(resource: Resource) -> Type {
    match resource {
        Resource::Cpu => Type::Cores,
        Resource::Memory => Type::Bytes,
    }
}

fn kinds(written: &document::Sizing, named: bool) -> Vec<ContainerKind> {
    match (written.kinds.is_empty(), named) {
        (false, _) => written.kinds.clone(),
        (true, true) => vec![ContainerKind::Main, ContainerKind::Sidecar, ContainerKind::Init],
        (true, false) => vec![ContainerKind::Main],
    }
}

/// What is written has to be right; what is not written is no mistake.
#[expect(clippy::option_option, reason = "not written, written and wrong, written and right")]
fn optional<T>(checked: Option<Option<T>>) -> Option<Option<T>> {
    match checked {
        None => Some(None),
        Some(None) => None,
        Some(right) => Some(right),
    }
}
