//! Where a part of a scalar's value stands in its text. Quotes, escapes, indentation and folded
//! lines make the two differ.

use std::ops::Range;

/// Finds the bytes of `range` of `value` in `raw`, the text that the value was read from, which
/// itself stands at `start`.
pub(super) fn locate(raw: &str, value: &str, range: &Range<usize>, start: usize) -> Range<usize> {
    let places = places(raw, value);
    let place = |at: usize| places.get(at).copied().unwrap_or(raw.len());
    let first = place(range.start);
    // The end is right after the last byte of the range, not where the next one begins: between the
    // two there may be a line break and indentation.
    let last = if range.end > range.start { place(range.end - 1) + 1 } else { first };
    start + first..start + last.max(first)
}

/// For each byte of `value`, the byte of `raw` that it was read from.
fn places(raw: &str, value: &str) -> Vec<usize> {
    let double_quoted = raw.starts_with('"');
    let mut at = usize::from(raw.starts_with(['"', '\'']));
    let mut places = Vec::with_capacity(value.len());
    for c in value.chars() {
        if double_quoted {
            at += continuation(&raw[at.min(raw.len())..]);
        }
        let rest = &raw[at.min(raw.len())..];
        let skipped = match c {
            ' ' | '\n' => 0,
            // Indentation and folded line breaks stand before the next visible character.
            _ => rest.len() - rest.trim_start_matches(['\n', '\r', ' ', '\t']).len(),
        };
        let visible = &rest[skipped..];
        let (begin, length) = if double_quoted && visible.starts_with('\\') {
            (at + skipped, escape_length(visible))
        } else if visible.starts_with(c) {
            (at + skipped, c.len_utf8())
        } else {
            // A folded line break that was read as a blank, or the end of a block.
            (at, usize::from(rest.starts_with(['\n', ' '])))
        };
        places.extend(std::iter::repeat_n(begin, c.len_utf8()));
        at = begin + length;
        if raw.starts_with('\'') && c == '\'' {
            at += 1;
        }
    }
    places
}

/// Bytes of an escaped line break with the indentation behind it: none of it is in the value.
fn continuation(rest: &str) -> usize {
    let Some(next) = rest.strip_prefix("\\\n").or_else(|| rest.strip_prefix("\\\r\n")) else { return 0 };
    rest.len() - next.trim_start_matches([' ', '\t']).len()
}

/// Bytes of an escape in a double-quoted scalar.
fn escape_length(text: &str) -> usize {
    match text.as_bytes().get(1) {
        Some(b'x') => 4,
        Some(b'u') => 6,
        Some(b'U') => 10,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::locate;

    #[test]
    fn a_word_is_found_in_every_style_of_scalar() {
        for (raw, value) in [
            ("one two three", "one two three"),
            ("'one ''two'' three'", "one 'two' three"),
            ("\"one \\\"two\\\" \\u00e4 three\"", "one \"two\" ä three"),
            ("one\n    two\n    three", "one two three"),
            ("one\n  two\n\n  three\n", "one\ntwo\n\nthree\n"),
            ("\"one \\\n   two three\"", "one two three"),
        ] {
            for word in ["one", "two", "three"] {
                let at = value.find(word).expect("the word is in the value");
                let found = locate(raw, value, &(at..at + word.len()), 0);
                assert_eq!(&raw[found], word, "{raw:?}");
            }
        }
    }
}
