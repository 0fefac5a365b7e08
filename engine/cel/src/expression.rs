//! A checked expression: a tree in which every node's type is known, so that evaluation neither looks
//! at types nor can meet a wrong one.

use std::fmt;
use std::sync::Arc;

use crate::calendar::{Clock, During};
use crate::problem::Span;
use crate::types::Type;
use crate::unit::write_duration;

/// A checked expression. Slots are places in its compiler's inputs.
#[derive(Clone, Debug)]
pub struct Expression {
    pub(crate) of: Type,
    pub(crate) root: Root,
}

#[derive(Clone, Debug)]
pub(crate) enum Root {
    Number(Number),
    Truth(Truth),
    Text(Text),
}

/// What evaluates to a number, of whatever unit.
#[derive(Clone, Debug)]
pub(crate) enum Number {
    Constant(f64),
    Input {
        slot: usize,
        span: Span,
    },
    /// The variable of a comprehension, by how many enclose it.
    Local(usize),
    Negate(Box<Number>),
    Arithmetic(Box<Arithmetic>),
    If(Box<(Truth, Number, Number)>),
    Call(Box<Call>),
    Clock(Box<Clock>),
}

#[derive(Clone, Debug)]
pub(crate) struct Arithmetic {
    pub(crate) operator: crate::ast::Operator,
    pub(crate) left: Number,
    pub(crate) right: Number,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) run: crate::functions::Run,
    pub(crate) arguments: Vec<Number>,
    pub(crate) span: Span,
}

/// What evaluates to true or false.
#[derive(Clone, Debug)]
pub(crate) enum Truth {
    Constant(bool),
    Input {
        slot: usize,
        span: Span,
    },
    Not(Box<Truth>),
    And(Box<(Truth, Truth)>),
    Or(Box<(Truth, Truth)>),
    If(Box<(Truth, Truth, Truth)>),
    Compare(Box<(crate::ast::Operator, Number, Number)>),
    Agree(Box<(Truth, Truth)>),
    SameText(Box<(Text, Text)>),
    NumberIn(Box<(Number, Vec<Number>)>),
    TextIn(Box<(Text, Vec<Text>)>),
    Quantified(Box<Quantified>),
    /// Whether the signal in this slot was measured.
    Measured(usize),
    During(Box<During>),
}

#[derive(Clone, Debug)]
pub(crate) struct Quantified {
    pub(crate) quantifier: Quantifier,
    pub(crate) elements: Vec<Number>,
    pub(crate) body: Truth,
}

/// How many elements must satisfy the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantifier {
    All,
    Exists,
    ExistsOne,
}

/// What evaluates to a text.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Constant(Arc<str>),
    Input { slot: usize, span: Span },
    If(Box<(Truth, Text, Text)>),
}

/// A value that expressions are evaluated over; its place in the compiler's inputs is its slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// The signal of this name.
    Signal(String),
    /// The parameter of this name, without the `params.`.
    Parameter(String),
    /// The rule's own value of this name.
    Let(String),
    /// A window over a signal.
    Window(Window),
}

/// A call of a window function: state that whoever evaluates keeps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// What is asked of the window.
    pub function: WindowFunction,
    /// The signal that it is over.
    pub signal: String,
    /// How far it reaches back, in seconds; for [`WindowFunction::Ewma`] the half-life.
    pub length: Constant,
    /// A further argument: the quantile, or how many seconds ahead to predict.
    pub argument: Option<Constant>,
}

/// A number that is known before evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// Written in the expression.
    Literal(f64),
    /// Set by the workload.
    Parameter(String),
}

impl Eq for Constant {}

impl PartialOrd for Constant {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Constant {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Constant::Literal(a), Constant::Literal(b)) => a.total_cmp(b),
            (Constant::Parameter(a), Constant::Parameter(b)) => a.cmp(b),
            (Constant::Literal(_), Constant::Parameter(_)) => std::cmp::Ordering::Less,
            (Constant::Parameter(_), Constant::Literal(_)) => std::cmp::Ordering::Greater,
        }
    }
}

/// What a window tells, by PromQL's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WindowFunction {
    /// Mean of the samples.
    Avg,
    /// Smallest sample.
    Min,
    /// Largest sample.
    Max,
    /// Sum of the samples.
    Sum,
    /// Number of samples.
    Count,
    /// Newest sample.
    Last,
    /// Quantile of the samples.
    Quantile,
    /// Standard deviation of the samples.
    Stddev,
    /// Last sample minus first sample.
    Delta,
    /// By how much a counter rose, resets allowed for.
    Increase,
    /// By how much a counter rose per second, resets allowed for.
    Rate,
    /// Slope of the line through the samples, per second.
    Deriv,
    /// Where the line through the samples will be.
    PredictLinear,
    /// Mean in which a sample counts half after each half-life.
    Ewma,
    /// Largest sample ever.
    MaxEver,
    /// Quantile of a histogram of all samples, each of which counts half after each half-life.
    DecayingQuantile,
    /// Number of samples that such a histogram was ever fed.
    DecayingSamples,
    /// Seconds between the first and the newest of them.
    DecayingLifespan,
    /// Quantile of a histogram of peaks: of each container one for each window.
    DecayingPeakQuantile,
}

impl WindowFunction {
    /// Whether it reads a decaying histogram.
    pub fn is_decaying(self) -> bool {
        use WindowFunction::{DecayingLifespan, DecayingPeakQuantile, DecayingQuantile, DecayingSamples};
        matches!(self, DecayingLifespan | DecayingPeakQuantile | DecayingQuantile | DecayingSamples)
    }
}

impl Expression {
    /// The type of its value.
    pub fn of(&self) -> Type {
        self.of
    }

    /// The value, if it needs no input and no clock.
    pub fn constant(&self) -> Option<f64> {
        if let Root::Number(Number::Constant(number)) = &self.root { Some(*number) } else { None }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = crate::functions::window_name(self.function);
        let length = match &self.length {
            Constant::Literal(seconds) => format!("'{}'", write_duration(*seconds)),
            Constant::Parameter(name) => format!("params.{name}"),
        };
        if self.function == WindowFunction::MaxEver {
            return write!(f, "{name}({})", self.signal);
        }
        write!(f, "{name}({}, {length}", self.signal)?;
        match &self.argument {
            Some(Constant::Literal(number)) => write!(f, ", {number})"),
            Some(Constant::Parameter(name)) => write!(f, ", params.{name})"),
            None => f.write_str(")"),
        }
    }
}
