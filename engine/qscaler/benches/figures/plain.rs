//! The texts of a rule, read by the plain interpreter: the same values for the same names, windows
//! and parameters as variables, integer literals as doubles because it does not mix the two.

use std::collections::BTreeMap;

use cel::common::types::{CelBool, CelDouble};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, Program, Value};

use qscaler_cel::Input;
use qscaler_core::decide::Question;
use qscaler_core::rule::Policy;

/// A rule's texts, compiled once, and the values of one question.
pub(crate) struct Plain {
    context: Context<'static, 'static>,
    lets: Vec<(String, Program)>,
    replicas: [Program; 3],
    values: Values,
}

#[derive(Clone, Default)]
struct Values(BTreeMap<String, Known>);

#[derive(Clone, Copy)]
enum Known {
    Number(f64),
    Truth(bool),
}

impl VariableResolver for Values {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        Some(match self.0.get(variable)? {
            Known::Number(number) => CowVal::owned(CelDouble::from(*number)),
            Known::Truth(truth) => CowVal::owned(CelBool::from(*truth)),
        })
    }
}

impl Plain {
    pub(crate) fn of(policy: &Policy, question: &Question) -> Self {
        let mut context = Context::default();
        context.add_function("max", cel::functions::max).unwrap();
        context.add_function("min", cel::functions::min).unwrap();
        context.add_function("seconds", |seconds: f64| seconds).unwrap();
        let mut values = Values::default();
        for (name, sample) in &question.signals {
            values.0.insert(name.clone(), Known::Number(sample.value().unwrap()));
        }
        for (name, value) in &policy.params {
            values.0.insert(format!("params.{name}"), Known::Number(value.number().unwrap()));
        }
        let mut windows = vec![];
        for (place, input) in policy.rule.inputs.iter().enumerate() {
            if let Input::Window(window) = input {
                let value = question.windows[&window.to_string()].unwrap();
                values.0.insert(format!("window{place}"), Known::Number(value));
                windows.push((window.to_string(), format!("window{place}")));
            }
        }
        let compile = |text: &str| Program::compile(&doubles(text, &windows)).unwrap();
        let spec = &policy.rule.document.spec;
        let lets = policy.rule.lets.iter().map(|(name, _)| (name.clone(), compile(&spec.lets[name].text)));
        let min = spec.replicas.min.as_ref().map_or("0.0", |min| &min.text);
        let replicas = [&spec.replicas.desired.text, min, &spec.replicas.max.text].map(compile);
        Self { lets: lets.collect(), replicas, context, values }
    }

    /// What `desired` comes to.
    pub(crate) fn desired(&self) -> Option<f64> {
        self.all()[0]
    }

    /// All values under `let`, then desired, min and max.
    pub(crate) fn all(&self) -> [Option<f64>; 3] {
        let mut values = self.values.clone();
        for (name, program) in &self.lets {
            let known = match self.run(program, &values) {
                Value::Float(number) => Known::Number(number),
                Value::Bool(truth) => Known::Truth(truth),
                other => panic!("{name}: {other:?}"),
            };
            values.0.insert(name.clone(), known);
        }
        [0, 1, 2].map(|place| match self.run(&self.replicas[place], &values) {
            Value::Float(number) => Some(number),
            _ => None,
        })
    }

    fn run(&self, program: &Program, values: &Values) -> Value {
        let mut scope = self.context.new_inner_scope();
        scope.set_variable_resolver(values);
        program.execute(&scope).unwrap()
    }
}

/// The text with variables for windows and doubles for integers.
fn doubles(text: &str, windows: &[(String, String)]) -> String {
    let text = windows.iter().fold(text.to_owned(), |text, (window, name)| text.replace(window, name));
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_alphanumeric() || c == '_' || c == '.' {
            word.push(c);
            continue;
        }
        out += &word;
        if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
            out += ".0";
        }
        word.clear();
        out.push(c);
    }
    out
}
