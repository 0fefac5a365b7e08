//! What is wrong with an expression, where, and what to type instead.

use std::fmt;
use std::ops::Range;

/// Bytes of an expression's text.
pub type Span = Range<usize>;

/// What kind of problem it is. The text of a code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The text is not an expression.
    Syntax,
    /// The expression is too long, too deep, or could take too many steps.
    Limit,
    /// A name that nothing has.
    UnknownName,
    /// A function that does not exist.
    UnknownFunction,
    /// A function with the wrong number of arguments.
    Arity,
    /// A value of the wrong type.
    Type,
    /// A literal that cannot be read: a duration, an amount, a cron pattern, a time zone.
    Literal,
    /// A part of CEL that rules do not have.
    Unsupported,
}

impl Code {
    /// All codes of expressions, with what each means.
    pub const ALL: [(Code, &'static str, &'static str); 8] = [
        (Code::Syntax, "Q201", "the text is not an expression"),
        (Code::Limit, "Q202", "the expression is too long, too deep, or could take too many steps"),
        (Code::UnknownName, "Q203", "nothing has this name"),
        (Code::UnknownFunction, "Q204", "there is no such function"),
        (Code::Arity, "Q205", "a function has too few or too many arguments"),
        (Code::Type, "Q206", "a value has the wrong type or unit"),
        (Code::Literal, "Q207", "a duration, amount, cron pattern or time zone cannot be read"),
        (Code::Unsupported, "Q208", "rules do not have this part of CEL"),
    ];
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Code::ALL.iter().find(|(code, ..)| code == self);
        f.write_str(known.map_or("Q2", |(_, text, _)| text))
    }
}

/// One problem of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub code: Code,
    /// Where.
    pub span: Span,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to type instead.
    pub help: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code, span, message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }
}

/// The candidate that was most likely meant, if any is close enough to be worth a question.
pub fn closest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |candidate: &str| {
        // Beyond the limits no typing error explains the difference, and the comparison is quadratic.
        let near = written.len().abs_diff(candidate.len()) <= 8 && written.len() <= 64;
        near.then(|| strsim::damerau_levenshtein(&written.to_lowercase(), &candidate.to_lowercase()))
    };
    let scored = candidates.into_iter().filter_map(|candidate| Some((distance(candidate)?, candidate)));
    let allowed = written.len().max(3) / 3;
    scored.filter(|(distance, _)| *distance <= allowed).min().map(|(_, candidate)| candidate)
}
