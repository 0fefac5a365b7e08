//! Evaluation: total over finite inputs, and every way to fail has a name and a place.

use crate::ast::Operator;
use crate::expression::{Expression, Number, Quantified, Quantifier, Root, Text, Truth};
use crate::limits::COMPREHENSIONS_MAX;
use crate::problem::Span;
use crate::types::Value;

/// Where an expression's inputs come from.
pub trait Values {
    /// The value in this slot, of the type that the scope declared; numbers are finite. None: it was
    /// not measured, or could not be computed.
    fn input(&self, slot: usize) -> Option<&Value>;

    /// The wall clock, in milliseconds since 1970 in UTC.
    fn wall_ms(&self) -> i64;
}

/// Why an expression has no value now.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The part that has none.
    pub span: Span,
    /// Why.
    pub kind: FaultKind,
}

/// The ways to have no value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// The input in this slot is absent.
    Absent(usize),
    /// This was divided by zero.
    DivisionByZero(f64),
    /// The operation has no result that is a number, such as the square root of -1.
    NotANumber(&'static str),
    /// The result is too large for a number.
    Infinite(&'static str),
}

type Evaluated<T> = Result<T, Fault>;

impl Expression {
    /// Its value over these inputs.
    pub fn evaluate(&self, values: &dyn Values) -> Evaluated<Value> {
        let frame = Frame { values, locals: [0.0; COMPREHENSIONS_MAX as usize], depth: 0 };
        match &self.root {
            Root::Number(node) => node.value(&frame).map(Value::Number),
            Root::Truth(node) => node.value(&frame).map(Value::Bool),
            Root::Text(node) => node.value(&frame).map(|text| Value::Text(text.into())),
        }
    }
}

/// Inputs and the variables of the comprehensions around.
#[derive(Clone, Copy)]
struct Frame<'a> {
    values: &'a dyn Values,
    locals: [f64; COMPREHENSIONS_MAX as usize],
    depth: usize,
}

impl<'a> Frame<'a> {
    fn input(&self, slot: usize, span: &Span) -> Evaluated<&'a Value> {
        self.values.input(slot).ok_or_else(|| Fault { span: span.clone(), kind: FaultKind::Absent(slot) })
    }

    fn with_local(&self, value: f64) -> Frame<'a> {
        let mut inner = *self;
        inner.locals[inner.depth] = value;
        inner.depth += 1;
        inner
    }
}

impl Number {
    fn value(&self, frame: &Frame<'_>) -> Evaluated<f64> {
        match self {
            Number::Constant(number) => Ok(*number),
            Number::Input { slot, span } => match frame.input(*slot, span)? {
                Value::Number(number) => Ok(*number),
                Value::Bool(_) | Value::Text(_) => Err(absent(*slot, span)),
            },
            Number::Local(place) => Ok(frame.locals[*place]),
            Number::Negate(of) => of.value(frame).map(|number| -number),
            Number::Arithmetic(it) => {
                let (left, right) = (it.left.value(frame)?, it.right.value(frame)?);
                arithmetic(it.operator, left, right, &it.span)
            }
            Number::If(it) => if it.0.value(frame)? { &it.1 } else { &it.2 }.value(frame),
            Number::Call(it) => {
                let arguments: Vec<f64> =
                    it.arguments.iter().map(|one| one.value(frame)).collect::<Evaluated<_>>()?;
                finite((it.run)(&arguments), it.name, &it.span)
            }
            Number::Clock(clock) => Ok(clock.read(frame.values.wall_ms())),
        }
    }
}

fn arithmetic(operator: Operator, left: f64, right: f64, span: &Span) -> Evaluated<f64> {
    let result = match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        _ if right == 0.0 => return Err(Fault { span: span.clone(), kind: FaultKind::DivisionByZero(left) }),
        _ => left / right,
    };
    finite(result, operator.text(), span)
}

fn finite(result: f64, name: &'static str, span: &Span) -> Evaluated<f64> {
    if result.is_finite() {
        return Ok(result);
    }
    let kind = if result.is_nan() { FaultKind::NotANumber(name) } else { FaultKind::Infinite(name) };
    Err(Fault { span: span.clone(), kind })
}

fn absent(slot: usize, span: &Span) -> Fault {
    Fault { span: span.clone(), kind: FaultKind::Absent(slot) }
}

impl Truth {
    fn value(&self, frame: &Frame<'_>) -> Evaluated<bool> {
        match self {
            Truth::Constant(truth) => Ok(*truth),
            Truth::Input { slot, span } => match frame.input(*slot, span)? {
                Value::Bool(truth) => Ok(*truth),
                Value::Number(_) | Value::Text(_) => Err(absent(*slot, span)),
            },
            Truth::Not(of) => of.value(frame).map(|truth| !truth),
            Truth::And(it) => either(&it.0, &it.1, false, frame),
            Truth::Or(it) => either(&it.0, &it.1, true, frame),
            Truth::If(it) => if it.0.value(frame)? { &it.1 } else { &it.2 }.value(frame),
            Truth::Compare(it) => Ok(compare(it.0, it.1.value(frame)?, it.2.value(frame)?)),
            Truth::Agree(it) => Ok(it.0.value(frame)? == it.1.value(frame)?),
            Truth::SameText(it) => Ok(it.0.value(frame)? == it.1.value(frame)?),
            Truth::NumberIn(it) => {
                let wanted = it.0.value(frame)?;
                any(&it.1, |one| Ok(compare(Operator::Equal, one.value(frame)?, wanted)))
            }
            Truth::TextIn(it) => {
                let wanted = it.0.value(frame)?;
                any(&it.1, |one| Ok(one.value(frame)? == wanted))
            }
            Truth::Quantified(it) => it.value(frame),
            Truth::Measured(slot) => Ok(frame.values.input(*slot).is_some()),
            Truth::During(during) => Ok(during.holds(frame.values.wall_ms())),
        }
    }
}

#[expect(clippy::float_cmp, reason = "CEL's == on doubles compares exactly")]
fn compare(operator: Operator, left: f64, right: f64) -> bool {
    match operator {
        Operator::Less => left < right,
        Operator::LessOrEqual => left <= right,
        Operator::Greater => left > right,
        Operator::GreaterOrEqual => left >= right,
        Operator::NotEqual => left != right,
        _ => left == right,
    }
}

/// `&&` and `||` as CEL has them: when one side decides, a fault of the other does not matter.
fn either(left: &Truth, right: &Truth, deciding: bool, frame: &Frame<'_>) -> Evaluated<bool> {
    match left.value(frame) {
        Ok(truth) if truth == deciding => Ok(deciding),
        Ok(_) => right.value(frame),
        Err(fault) => match right.value(frame) {
            Ok(truth) if truth == deciding => Ok(deciding),
            Ok(_) | Err(_) => Err(fault),
        },
    }
}

/// Whether one satisfies the test; a fault counts only when none does.
fn any<T>(elements: &[T], test: impl Fn(&T) -> Evaluated<bool>) -> Evaluated<bool> {
    let mut fault = None;
    for element in elements {
        match test(element) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(it) => fault = fault.or(Some(it)),
        }
    }
    fault.map_or(Ok(false), Err)
}

impl Quantified {
    fn value(&self, frame: &Frame<'_>) -> Evaluated<bool> {
        let holds = |element: &Number| self.body.value(&frame.with_local(element.value(frame)?));
        match self.quantifier {
            Quantifier::Exists => any(&self.elements, holds),
            Quantifier::All => {
                any(&self.elements, |element| holds(element).map(|truth| !truth)).map(|truth| !truth)
            }
            Quantifier::ExistsOne => {
                let mut count = 0;
                for element in &self.elements {
                    count += u32::from(holds(element)?);
                }
                Ok(count == 1)
            }
        }
    }
}

impl Text {
    fn value<'a>(&'a self, frame: &Frame<'a>) -> Evaluated<&'a str> {
        match self {
            Text::Constant(text) => Ok(text),
            Text::Input { slot, span } => match frame.input(*slot, span)? {
                Value::Text(text) => Ok(text),
                Value::Number(_) | Value::Bool(_) => Err(absent(*slot, span)),
            },
            Text::If(it) => if it.0.value(frame)? { &it.1 } else { &it.2 }.value(frame),
        }
    }
}
