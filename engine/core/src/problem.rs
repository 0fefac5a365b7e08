//! What is wrong with what a user wrote: a code, a place, one sentence, and what to type instead.
//!
//! Problems are found in documents without places; they carry a JSON pointer and, inside a text, a
//! byte range. [`File::locate`] turns both into a place in the file.

mod codes;
mod render;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::yaml::Document;

pub use codes::{CODES, Code};
pub use render::{Format, render};

/// Whether a problem keeps something from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does: the part does not run.
    Error,
    /// It works, though probably not as meant.
    Warning,
}

/// Where in a document a problem is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Which document of the file, from 0.
    pub document: usize,
    /// JSON pointer (RFC 6901) to the value.
    pub pointer: String,
    /// The key of that value is meant and not the value.
    pub key: bool,
    /// Bytes of the value's text; the whole value without.
    pub range: Option<Range<usize>>,
}

impl Place {
    /// A value.
    pub fn value(document: usize, pointer: impl Into<String>) -> Self {
        Self { document, pointer: pointer.into(), key: false, range: None }
    }

    /// The key of a value.
    pub fn key(document: usize, pointer: impl Into<String>) -> Self {
        Self { key: true, ..Self::value(document, pointer) }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// Where in it: bytes of the file's text.
    pub span: Range<usize>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to type instead.
    pub help: Option<String>,
}

/// A problem before it is known where in the file its place is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to type instead.
    pub help: Option<String>,
}

impl Finding {
    /// An error.
    pub fn error(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, place, message: message.into(), help: None }
    }

    /// A warning.
    pub fn warning(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    /// With what to type instead.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With what to type instead, if that is known.
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }
}

/// A file that was read, with the places of everything in it.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// Its path, as the user knows it.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Its documents; none when it is no YAML.
    pub documents: Vec<Document>,
}

impl File {
    /// Puts a finding at its place in this file.
    pub fn locate(&self, finding: Finding) -> Problem {
        let Finding { code, severity, place, message, help } = finding;
        let span = self.documents.get(place.document).map(|document| document.span(&place, &self.text));
        Problem { code, severity, file: self.path.clone(), span: span.unwrap_or(0..0), message, help }
    }

    /// Line and column, both from 1, the column in characters.
    pub fn line_column(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at.min(self.text.len())).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
    }
}

/// Whether any of these keeps something from working.
pub fn has_errors(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}
