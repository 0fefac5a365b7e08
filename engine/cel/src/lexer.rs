//! From text to tokens, each with its place.

use crate::problem::{Code, Problem, Span};
use crate::text::unescape;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Number(f64),
    Text(String),
    Name(String),
    /// An operator or a bracket.
    Mark(&'static str),
    End,
}

/// Longest first, so that `<=` is not read as `<`.
const MARKS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}",
];

/// Splits a text. Fails at the first character that begins no token.
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token, Span)>, Problem> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = vec![];
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        tokens.push((token, start..lexer.at));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        loop {
            let blanks = self.rest().len() - self.rest().trim_start().len();
            self.at += blanks;
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn token(&mut self) -> Result<Token, Problem> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        let dot_digit = first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit());
        if first.is_ascii_digit() || dot_digit {
            return self.number();
        }
        if let Some(quote) = quote_at(rest) {
            return self.quoted(quote);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = rest[..length].to_owned();
            self.at += length;
            return Ok(Token::Name(name));
        }
        if let Some(mark) = MARKS.iter().find(|mark| rest.starts_with(**mark)) {
            self.at += mark.len();
            return Ok(Token::Mark(mark));
        }
        let span = self.at..self.at + first.len_utf8();
        let problem = Problem::new(Code::Syntax, span, format!("`{first}` cannot stand here"));
        Err(problem.maybe_help(match first {
            '=' => Some("compare with `==`".into()),
            '&' => Some("write `&&`".into()),
            '|' => Some("write `||`".into()),
            '`' | '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' => Some("quote texts with `'`".into()),
            '$' | '@' | '#' => Some("names are letters, digits, `_` and `.`".into()),
            _ => None,
        }))
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let start = self.at;
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let digits =
            |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut end = digits(0);
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                end = digits(end + 1 + sign);
            }
        }
        let letters =
            rest[end..].bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let (literal, suffix) = (rest[..end].to_owned(), rest[end..end + letters].to_owned());
        self.at += end + letters;
        let span = start..self.at;
        if !suffix.is_empty() {
            let problem = Problem::new(Code::Syntax, span, format!("`{literal}{suffix}` is not a number"));
            return Err(problem.maybe_help(unit_help(&literal, &suffix)));
        }
        let number: f64 = literal.parse().unwrap_or(f64::INFINITY);
        if !number.is_finite()
            || (number.abs() > 9_007_199_254_740_992.0 && !literal.contains(['.', 'e', 'E']))
        {
            let message = format!("`{literal}` is larger than a double holds exactly");
            return Err(Problem::new(Code::Literal, span, message));
        }
        Ok(Token::Number(number))
    }

    fn quoted(&mut self, quote: Quote) -> Result<Token, Problem> {
        let start = self.at;
        let open = quote.prefix + quote.mark.len();
        let body_start = start + open;
        let mut at = body_start;
        while let Some(c) = self.text[at..].chars().next() {
            if self.text[at..].starts_with(quote.mark) {
                self.at = at + quote.mark.len();
                let body = &self.text[body_start..at];
                if quote.raw {
                    return Ok(Token::Text(body.to_owned()));
                }
                return unescape(body).map(Token::Text).map_err(|(place, message)| {
                    let place = body_start + place;
                    Problem::new(Code::Syntax, place..place + 1, message).help("write `\\\\` for a backslash")
                });
            }
            let escaped = c == '\\' && !quote.raw;
            let skip = if escaped { self.text[at + 1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
            at += c.len_utf8() + skip;
        }
        self.at = self.text.len();
        let problem = Problem::new(Code::Syntax, start..body_start, "this text does not end");
        Err(problem.help(format!("close it with `{}`", quote.mark)))
    }
}

struct Quote {
    /// Letters before the quote.
    prefix: usize,
    mark: &'static str,
    raw: bool,
}

/// The quote that opens a text here, with its prefix `r`.
fn quote_at(rest: &str) -> Option<Quote> {
    let raw = rest.starts_with(['r', 'R']);
    let prefix = usize::from(raw);
    let mark = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|mark| rest[prefix..].starts_with(mark))?;
    Some(Quote { prefix, mark, raw })
}

fn unit_help(literal: &str, suffix: &str) -> Option<String> {
    let both = format!("{literal}{suffix}");
    if suffix == "u" || suffix == "U" {
        Some(format!("write {literal}: all numbers are doubles"))
    } else if crate::unit::duration(&both).is_some() {
        Some(format!("write duration('{both}')"))
    } else if crate::unit::bytes(&both).is_some() {
        Some(format!("write bytes('{both}')"))
    } else {
        None
    }
}
