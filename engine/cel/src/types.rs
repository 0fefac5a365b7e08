//! Types and values of expressions.

use std::fmt;
use std::sync::Arc;

/// What a value is. Everything but `Bool`, `Text` and `List` is a double underneath; the type says of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// A number without a unit.
    Number,
    /// A duration, held in seconds.
    Duration,
    /// An amount of memory, held in bytes.
    Bytes,
    /// An amount of processor, held in cores.
    Cores,
    /// True or false.
    Bool,
    /// A text; texts can be compared and nothing else.
    Text,
}

impl Type {
    /// Whether values of this type can be added, compared by size, and multiplied by numbers.
    pub fn is_numeric(self) -> bool {
        matches!(self, Type::Number | Type::Duration | Type::Bytes | Type::Cores)
    }

    /// How to write this value as a plain number, for messages.
    pub(crate) fn to_number(self, text: &str) -> Option<String> {
        match self {
            Type::Duration => Some(format!("seconds({text})")),
            Type::Bytes => Some(format!("{text} / bytes('1')")),
            Type::Cores => Some(format!("{text} / cores('1')")),
            Type::Number | Type::Bool | Type::Text => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Number => "a number",
            Type::Duration => "a duration",
            Type::Bytes => "an amount of memory",
            Type::Cores => "an amount of processor",
            Type::Bool => "true or false",
            Type::Text => "a text",
        })
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A value of a numeric [`Type`], in its base unit. Never infinite, always a number.
    Number(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(Arc<str>),
}

impl Value {
    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        if let Value::Number(number) = self { Some(*number) } else { None }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            Value::Bool(truth) => write!(f, "{truth}"),
            Value::Text(text) => write!(f, "'{text}'"),
        }
    }
}
