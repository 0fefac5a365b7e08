//! Escapes in quoted texts, as CEL has them.

/// Replaces escapes. The error is the byte of the backslash and what is wrong.
pub(crate) fn unescape(body: &str) -> Result<String, (usize, String)> {
    let mut text = String::with_capacity(body.len());
    let mut at = 0;
    while let Some(c) = body[at..].chars().next() {
        if c != '\\' {
            text.push(c);
            at += c.len_utf8();
            continue;
        }
        let wrong = |what: &str| (at, format!("`\\{what}` is not an escape"));
        let letter = body[at + 1..].chars().next().ok_or_else(|| wrong(""))?;
        let simple = match letter {
            'n' => Some('\n'),
            't' => Some('\t'),
            'r' => Some('\r'),
            'a' => Some('\u{07}'),
            'b' => Some('\u{08}'),
            'f' => Some('\u{0c}'),
            'v' => Some('\u{0b}'),
            '\\' | '\'' | '"' | '`' | '?' => Some(letter),
            _ => None,
        };
        if let Some(simple) = simple {
            text.push(simple);
            at += 2;
            continue;
        }
        let (skip, digits, radix) = match letter {
            'x' | 'X' => (2, 2, 16),
            'u' => (2, 4, 16),
            'U' => (2, 8, 16),
            '0'..='3' => (1, 3, 8),
            _ => return Err(wrong(&letter.to_string())),
        };
        let number = body
            .get(at + skip..at + skip + digits)
            .and_then(|digits| u32::from_str_radix(digits, radix).ok());
        text.push(number.and_then(char::from_u32).ok_or_else(|| wrong(&letter.to_string()))?);
        at += skip + digits;
    }
    Ok(text)
}
