//! The kinds of problems. A code keeps its meaning for ever; the reference is made from this table.

use std::fmt;

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The file cannot be read.
    Unreadable,
    /// The file is no YAML, or YAML that we refuse.
    Yaml,
    /// No document, or one of another kind.
    Kind,
    /// A field that does not exist.
    UnknownField,
    /// A field that must be there is not.
    MissingField,
    /// A value of the wrong type or form.
    Value,
    /// A problem of an expression.
    Expression(qscaler_cel::Code),
    /// Names under `let` that need each other.
    Cycle,
    /// The least number of workers is above the largest.
    Bounds,
    /// Two rules of one name.
    DuplicateRule,
    /// Two rules for one workload.
    Ambiguous,
    /// No rule for a workload.
    NoRule,
    /// A parameter that the rule does not have, or of the wrong type.
    Parameter,
    /// Two workloads of one name.
    DuplicateWorkload,
    /// A source that no part of this program reads.
    Source,
    /// A signal that can only be inferred from this source.
    Estimated,
    /// Something that is allowed and probably not meant.
    Suspicious,
    /// A test that does not hold.
    Test,
}

/// Every code with its text and meaning; those of expressions are [`qscaler_cel::Code::ALL`].
pub const CODES: [(Code, &str, &str); 17] = [
    (Code::Unreadable, "Q101", "the file cannot be read"),
    (
        Code::Yaml,
        "Q102",
        "the file is no YAML, or uses anchors, duplicate keys or more than the limits allow",
    ),
    (Code::Kind, "Q103", "the document is of no known apiVersion and kind"),
    (Code::UnknownField, "Q104", "there is no such field"),
    (Code::MissingField, "Q105", "a field that must be there is missing"),
    (Code::Value, "Q106", "a value has the wrong type or form"),
    (Code::Cycle, "Q301", "names under `let` need each other"),
    (Code::Bounds, "Q302", "the least number of workers is above the largest"),
    (Code::DuplicateRule, "Q303", "two rules have one name"),
    (Code::Ambiguous, "Q304", "two rules choose one workload"),
    (Code::NoRule, "Q305", "no rule chooses a workload"),
    (Code::Parameter, "Q306", "the rule has no such parameter, or one of another type"),
    (Code::DuplicateWorkload, "Q307", "two workloads have one name"),
    (Code::Source, "Q308", "no part of this program reads this source"),
    (Code::Estimated, "Q401", "a signal can only be inferred from this source"),
    (Code::Suspicious, "Q402", "this is allowed and probably not meant"),
    (Code::Test, "Q501", "a test does not hold"),
];

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Code::Expression(code) = self {
            return code.fmt(f);
        }
        let known = CODES.iter().find(|(code, ..)| code == self);
        f.write_str(known.map_or("Q000", |(_, text, _)| text))
    }
}

impl From<qscaler_cel::Code> for Code {
    fn from(code: qscaler_cel::Code) -> Self {
        Code::Expression(code)
    }
}
