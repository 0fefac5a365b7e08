//! The names and values that the tests' expressions are about.

use qscaler_cel::{Compiler, Expression, Input, Kind, Problem, Scope, Type, Value, Values, parse};

/// Wednesday 2026-01-07 09:30 in UTC.
pub(crate) const NOW_MS: i64 = 1_767_778_200_000;

pub(crate) fn scope() -> Scope {
    let mut scope = Scope::default();
    for name in ["queue.length", "queue.arrivals", "queue.oldest"] {
        scope.declare(name, Type::Number, Kind::Signal);
    }
    scope.declare("usage.memory", Type::Bytes, Kind::Signal);
    scope.declare("usage.cpu", Type::Cores, Kind::Signal);
    scope.declare_of_one_queue("length", Type::Number);
    scope.declare("params.wait", Type::Duration, Kind::Parameter);
    scope.declare("params.workersMax", Type::Number, Kind::Parameter);
    scope.declare("params.tier", Type::Text, Kind::Parameter);
    scope.declare("params.on", Type::Bool, Kind::Parameter);
    scope.declare("params.floor", Type::Bytes, Kind::Parameter);
    scope.declare("demand", Type::Number, Kind::Let);
    scope
}

pub(crate) fn compile(text: &str) -> Result<(Expression, Vec<Input>), Vec<Problem>> {
    let mut compiler = Compiler::new(scope());
    let parsed = parse(text).map_err(|problem| vec![problem])?;
    let expression = compiler.check(&parsed, None)?;
    Ok((expression, compiler.inputs().to_vec()))
}

pub(crate) struct World {
    values: Vec<Option<Value>>,
}

impl World {
    pub(crate) fn of(inputs: &[Input]) -> Self {
        Self { values: inputs.iter().map(value_of).collect() }
    }
}

pub(crate) fn value_of(input: &Input) -> Option<Value> {
    let name = match input {
        Input::Signal(name) | Input::Let(name) | Input::Parameter(name) => name.as_str(),
        Input::Window(_) => return Some(Value::Number(4.0)),
    };
    Some(match name {
        "queue.length" => Value::Number(12.0),
        "queue.arrivals" => Value::Number(0.5),
        "queues['high'].length" => Value::Number(3.0),
        "usage.memory" => Value::Number(209_715_200.0),
        "usage.cpu" => Value::Number(0.25),
        "wait" => Value::Number(30.0),
        "workersMax" => Value::Number(50.0),
        "tier" => Value::Text("gold".into()),
        "on" => Value::Bool(true),
        "floor" => Value::Number(1_073_741_824.0),
        "demand" => Value::Number(7.0),
        _ => return None,
    })
}

impl Values for World {
    fn input(&self, slot: usize) -> Option<&Value> {
        self.values[slot].as_ref()
    }

    fn wall_ms(&self) -> i64 {
        NOW_MS
    }
}
