//! Behaviour of expressions.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests read files, and need threads with small stacks"
)]

mod limits;
mod problems;
mod reference;
mod values;
mod world;
