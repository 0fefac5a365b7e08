//! What an expression may cost. Reached limits are problems when the rule is loaded; nothing has to
//! be stopped while it runs. In a plain interpreter 214 bytes of nested `.all` run for 14 s, and
//! 3,000 terms of `1+1+...` end the process.

/// Bytes of one expression's text. Checked before anything else.
pub const TEXT_BYTES_MAX: usize = 4096;

/// Depth of the expression's tree: parentheses, operands, arguments and chains alike. The deepest one
/// is parsed, checked and evaluated on a stack of 512 KiB without optimisation.
pub const DEPTH_MAX: u16 = 64;

/// Comprehensions within comprehensions.
pub const COMPREHENSIONS_MAX: u32 = 2;

/// Steps of one evaluation: nodes of the tree, those under a comprehension once for each element.
pub const STEPS_MAX: u64 = 10_000;
