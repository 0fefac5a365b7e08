//! Writes what rules decide into a test file, leaving everything else as it is, comments included.

use crate::problem::{File, Finding, Place};

/// A value that is to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which document of the file.
    pub index: usize,
    /// JSON pointer to the value.
    pub pointer: String,
    /// Its new text.
    pub value: String,
}

/// The file's text with all edits made.
pub fn apply(file: &File, edits: &[Edit]) -> String {
    let place = |edit: &Edit| {
        let finding = Finding::error(crate::problem::Code::Test, Place::value(edit.index, &edit.pointer), "");
        file.locate(finding).span
    };
    let mut placed: Vec<_> = edits.iter().map(|edit| (place(edit), edit.value.as_str())).collect();
    // From the end, so that earlier places stay where they are.
    placed.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = file.text.clone();
    for (span, value) in placed {
        text.replace_range(span, value);
    }
    text
}
