//! The expressions of rules: a part of CEL (the Common Expression Language), checked when the rule
//! is loaded, safe to evaluate at any time.
//!
//! What differs from a plain interpreter, and why:
//!
//! * **Checked.** Names, types, functions and arity are known before anything runs; each problem has
//!   a place in the text and says what to type ([`check`](Compiler::check)).
//! * **One kind of number.** All numbers are doubles, so `queue.length / 10` is what it looks like.
//!   Durations, amounts of memory and cores are types of their own ([`Type`]); mixing them is a
//!   problem, not a wrong number.
//! * **No silent numbers.** Division by zero, a result that is no number or is infinite, and a signal
//!   that was not measured are faults with a place ([`Fault`]), never values.
//! * **Bounded.** Text, depth and cost are limited ([`limits`]); no operator builds texts or lists.
//! * **Windows are state.** `avg_over_time(queue.length, '5m')` is taken out of the expression and
//!   becomes an [`Input`]; whoever evaluates keeps the window.
//!
//! Three steps: [`parse`] a text, [`check`](Compiler::check) it against a [`Scope`], and
//! [`evaluate`](Expression::evaluate) it over the values of the compiler's [inputs](Compiler::inputs).

mod ast;
mod calendar;
mod check;
mod evaluate;
mod expression;
mod functions;
mod lexer;
pub mod limits;
mod parser;
mod problem;
mod scope;
mod text;
mod types;
pub mod unit;

pub use check::Compiler;
pub use evaluate::{Fault, FaultKind, Values};
pub use expression::{Constant, Expression, Input, Window, WindowFunction};
pub use functions::{Documented, documented};
pub use parser::{Parsed, parse};
pub use problem::{Code, Problem, Span, closest};
pub use scope::{Kind, Scope};
pub use types::{Type, Value};
