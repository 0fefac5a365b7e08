//! From tokens to a tree, by operator precedence with an explicit stack (Dijkstra 1961, the "shunting
//! yard"), so that no text, however nested, takes the program's own stack.
//!
//! Depth is counted while the tree is built: nothing after the parser meets a deeper one, and may recurse.

use std::collections::BTreeMap;

use crate::ast::{Ast, Kind, Operator};
use crate::lexer::{Token, tokens};
use crate::limits::{DEPTH_MAX, TEXT_BYTES_MAX};
use crate::problem::{Code, Problem, Span};

/// A text that is an expression by its form.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub(crate) text: String,
    pub(crate) ast: Ast,
}

impl Parsed {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The dotted names that occur, each with its first place.
    pub fn names(&self) -> BTreeMap<String, Span> {
        let mut names = BTreeMap::new();
        let mut pending = vec![&self.ast];
        while let Some(node) = pending.pop() {
            match node.name() {
                Some(name) => {
                    names.entry(name).or_insert_with(|| node.span.clone());
                }
                None => pending.extend(node.children()),
            }
        }
        names
    }
}

/// Parses a text. At most one problem: after a mistake in form the rest means nothing.
pub fn parse(text: &str) -> Result<Parsed, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("this expression has {} bytes; the limit is {TEXT_BYTES_MAX}", text.len());
        return Err(Problem::new(Code::Limit, 0..text.len(), message).help("name parts of it under `let`"));
    }
    let ast = Parser { tokens: tokens(text)?, at: 0, operands: vec![], pending: vec![] }.run()?;
    Ok(Parsed { text: text.to_owned(), ast })
}

/// What waits for its right side.
enum Pending {
    /// `-` or `!`.
    Prefix(&'static str, Span),
    Infix(Operator, Span),
    /// `condition ?`
    Then,
    /// `condition ? then :`
    Otherwise,
    /// A bracket, and how many operands stood before it.
    Open(Bracket, Span, usize),
}

/// What must follow.
enum Next {
    Operand,
    /// An operator, a closing bracket, or the end.
    Operator,
    End,
}

enum Bracket {
    Group,
    List,
    /// The operand before it is what is indexed.
    Index,
    Call {
        name: String,
        name_span: Span,
    },
    /// The operand before it is what the method is of.
    Method {
        name: String,
        name_span: Span,
    },
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    operands: Vec<Ast>,
    pending: Vec<Pending>,
}

type Parsing<T> = Result<T, Problem>;

impl Parser {
    fn run(mut self) -> Parsing<Ast> {
        loop {
            self.operand()?;
            loop {
                match self.operator()? {
                    Next::Operator => {}
                    Next::Operand => break,
                    Next::End => return self.finish(),
                }
            }
        }
    }

    fn finish(mut self) -> Parsing<Ast> {
        self.reduce_choices()?;
        match self.pending.last() {
            Some(Pending::Open(bracket, ..)) => Err(self.unexpected(&format!("`{}`", bracket.close()))),
            Some(_) => Err(self.unexpected("`:`")),
            None => Ok(self.pop()),
        }
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn next_is(&self, mark: &str) -> bool {
        matches!(self.tokens.get(self.at + 1), Some((Token::Mark(next), _)) if *next == mark)
    }

    fn take(&mut self) -> (Token, Span) {
        let taken = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        taken
    }

    fn pop(&mut self) -> Ast {
        self.operands.pop().expect("every operator was pushed after its operand")
    }

    /// Pushes a node over its parts, or fails where the tree gets too deep.
    fn push(&mut self, span: Span, kind: Kind, depth_of_parts: u16) -> Parsing<()> {
        let depth = 1 + depth_of_parts;
        if depth > DEPTH_MAX {
            let message = format!("this expression nests more than {DEPTH_MAX} deep");
            return Err(Problem::new(Code::Limit, span, message).help("name parts of it under `let`"));
        }
        self.operands.push(Ast { span, depth, kind });
        Ok(())
    }

    /// Reads up to and including the next literal, name or empty brackets.
    fn operand(&mut self) -> Parsing<()> {
        loop {
            let (token, span) = (self.peek().clone(), self.tokens[self.at].1.clone());
            let before = self.operands.len();
            match token {
                Token::Number(number) => return self.literal(Kind::Number(number)),
                Token::Text(text) => return self.literal(Kind::Text(text)),
                Token::Name(name) if self.next_is("(") => {
                    check_name(&name, &span)?;
                    self.take();
                    self.pending.push(Pending::Open(
                        Bracket::Call { name, name_span: span.clone() },
                        span,
                        before,
                    ));
                }
                Token::Name(name) => {
                    check_name(&name, &span)?;
                    return self.literal(match name.as_str() {
                        "true" => Kind::Bool(true),
                        "false" => Kind::Bool(false),
                        _ => Kind::Name(name),
                    });
                }
                Token::Mark(mark @ ("-" | "!")) => self.pending.push(Pending::Prefix(mark, span)),
                Token::Mark("(") => self.pending.push(Pending::Open(Bracket::Group, span, before)),
                Token::Mark("[") => self.pending.push(Pending::Open(Bracket::List, span, before)),
                Token::Mark("{") => {
                    let message = "rules have no map literals";
                    return Err(
                        Problem::new(Code::Unsupported, span, message).help("use `? :` to choose a value")
                    );
                }
                Token::Mark(close @ (")" | "]")) if self.may_be_empty(close) => return Ok(()),
                Token::Mark(_) | Token::End => return Err(self.unexpected("a value")),
            }
            self.take();
        }
    }

    fn literal(&mut self, kind: Kind) -> Parsing<()> {
        let (_, span) = self.take();
        self.push(span, kind, 0)
    }

    /// Whether brackets that have just opened may close at once.
    fn may_be_empty(&self, close: &str) -> bool {
        match self.pending.last() {
            Some(Pending::Open(bracket, _, before)) => {
                let may = !matches!(bracket, Bracket::Group | Bracket::Index);
                may && bracket.close() == close && self.operands.len() == *before
            }
            _ => false,
        }
    }

    /// Reads one thing after an operand.
    fn operator(&mut self) -> Parsing<Next> {
        let (token, span) = (self.peek().clone(), self.tokens[self.at].1.clone());
        match token {
            Token::End => return Ok(Next::End),
            Token::Mark(".") => {
                self.take();
                return self.field();
            }
            Token::Mark("[") => {
                self.pending.push(Pending::Open(Bracket::Index, span, self.operands.len()));
            }
            Token::Mark("?") => {
                self.reduce(0)?;
                self.pending.push(Pending::Then);
            }
            Token::Mark(":") => {
                self.reduce_choices()?;
                match self.pending.last_mut() {
                    Some(waiting @ Pending::Then) => *waiting = Pending::Otherwise,
                    _ => return Err(self.unexpected("an operator or the end")),
                }
            }
            Token::Mark(",") => {
                self.reduce_choices()?;
                match self.pending.last() {
                    Some(Pending::Open(
                        Bracket::List | Bracket::Call { .. } | Bracket::Method { .. },
                        ..,
                    )) => {}
                    _ => return Err(self.unexpected("an operator or the end")),
                }
            }
            Token::Mark(close @ (")" | "]")) => {
                self.close(close, &span)?;
                self.take();
                return Ok(Next::Operator);
            }
            _ => match operator_of(&token) {
                Some(operator) => {
                    self.reduce(operator.precedence())?;
                    self.pending.push(Pending::Infix(operator, span));
                }
                None => return Err(self.unexpected("an operator or the end")),
            },
        }
        self.take();
        Ok(Next::Operand)
    }

    fn field(&mut self) -> Parsing<Next> {
        let (token, name_span) = (self.peek().clone(), self.tokens[self.at].1.clone());
        let Token::Name(name) = token else { return Err(self.unexpected("a name")) };
        let is_method = self.next_is("(");
        self.take();
        if is_method {
            let bracket = Bracket::Method { name, name_span: name_span.clone() };
            self.pending.push(Pending::Open(bracket, name_span, self.operands.len()));
            self.take();
            return Ok(Next::Operand);
        }
        let of = self.pop();
        let depth = of.depth;
        self.push(of.span.start..name_span.end, Kind::Select { of: Box::new(of), field: name }, depth)?;
        Ok(Next::Operator)
    }

    /// Builds the operators that bind at least as strongly as `precedence`; choices stay.
    fn reduce(&mut self, precedence: u8) -> Parsing<()> {
        loop {
            match self.pending.last() {
                Some(Pending::Prefix(mark, at)) => {
                    let (mark, start) = (*mark, at.start);
                    let of = self.pop();
                    let (span, depth) = (start..of.span.end, of.depth);
                    let of = Box::new(of);
                    self.push(span, if mark == "-" { Kind::Negate(of) } else { Kind::Not(of) }, depth)?;
                }
                Some(Pending::Infix(operator, at)) if operator.precedence() >= precedence => {
                    let (operator, operator_span) = (*operator, at.clone());
                    let (right, left) = (self.pop(), self.pop());
                    let (span, depth) = (left.span.start..right.span.end, left.depth.max(right.depth));
                    let (left, right) = (Box::new(left), Box::new(right));
                    self.push(span, Kind::Binary { operator, operator_span, left, right }, depth)?;
                }
                _ => return Ok(()),
            }
            self.pending.pop();
        }
    }

    /// Builds everything up to the innermost bracket or `?`.
    fn reduce_choices(&mut self) -> Parsing<()> {
        self.reduce(0)?;
        while matches!(self.pending.last(), Some(Pending::Otherwise)) {
            self.pending.pop();
            let (otherwise, then, condition) = (self.pop(), self.pop(), self.pop());
            let span = condition.span.start..otherwise.span.end;
            let depth = condition.depth.max(then.depth).max(otherwise.depth);
            let (condition, then, otherwise) = (Box::new(condition), Box::new(then), Box::new(otherwise));
            self.push(span, Kind::If { condition, then, otherwise }, depth)?;
            self.reduce(0)?;
        }
        Ok(())
    }

    fn close(&mut self, close: &str, at: &Span) -> Parsing<()> {
        self.reduce_choices()?;
        let (bracket, open, before) = match self.pending.pop() {
            Some(Pending::Open(bracket, open, before)) if bracket.close() == close => (bracket, open, before),
            other => {
                let wanted = match &other {
                    Some(Pending::Open(bracket, ..)) => format!("`{}`", bracket.close()),
                    Some(_) => "`:`".to_owned(),
                    None => "an operator or the end".to_owned(),
                };
                return Err(self.unexpected(&wanted));
            }
        };
        let parts = self.operands.split_off(before);
        let depth = parts.iter().map(|part| part.depth).max().unwrap_or(0);
        self.build(bracket, open.start..at.end, parts, depth)
    }

    fn build(&mut self, bracket: Bracket, span: Span, mut parts: Vec<Ast>, depth: u16) -> Parsing<()> {
        match bracket {
            Bracket::Group => {
                let inner = parts.pop().map(|inner| Ast { span, ..inner });
                self.operands.extend(inner);
                Ok(())
            }
            Bracket::List => self.push(span, Kind::List(parts), depth),
            Bracket::Call { name, name_span } => {
                self.push(span, Kind::Call { name, name_span, arguments: parts }, depth)
            }
            Bracket::Index => {
                let of = self.pop();
                let (start, depth) = (of.span.start, depth.max(of.depth));
                let key = parts.pop().map(Box::new).expect("an index is never empty");
                self.push(start..span.end, Kind::Index { of: Box::new(of), key }, depth)
            }
            Bracket::Method { name, name_span } => {
                let of = self.pop();
                let (start, depth) = (of.span.start, depth.max(of.depth));
                let kind = Kind::Method { of: Box::new(of), name, name_span, arguments: parts };
                self.push(start..span.end, kind, depth)
            }
        }
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        let (token, span) = &self.tokens[self.at];
        let found = match token {
            Token::End => "the expression ends".to_owned(),
            Token::Mark(mark) => format!("`{mark}` stands"),
            Token::Name(name) => format!("`{name}` stands"),
            Token::Number(_) => "a number stands".to_owned(),
            Token::Text(_) => "a text stands".to_owned(),
        };
        let help = match token {
            Token::Name(name) if name == "and" => Some("write `&&`".into()),
            Token::Name(name) if name == "or" => Some("write `||`".into()),
            Token::Name(name) if name == "if" || name == "else" => Some("write `condition ? a : b`".into()),
            Token::Mark("%") => Some("write `x - floor(x / y) * y` for a remainder".into()),
            _ => None,
        };
        Problem::new(Code::Syntax, span.clone(), format!("{found} where {wanted} should be")).maybe_help(help)
    }
}

impl Bracket {
    fn close(&self) -> &'static str {
        match self {
            Bracket::Group | Bracket::Call { .. } | Bracket::Method { .. } => ")",
            Bracket::List | Bracket::Index => "]",
        }
    }
}

fn operator_of(token: &Token) -> Option<Operator> {
    match token {
        Token::Mark(mark) => Operator::ALL.into_iter().find(|operator| operator.text() == *mark),
        Token::Name(name) if name == "in" => Some(Operator::In),
        _ => None,
    }
}

fn check_name(name: &str, span: &Span) -> Parsing<()> {
    let help = match name {
        "null" => "ask `has(signal)` whether it was measured",
        "not" => "write `!`",
        "if" | "else" => "write `condition ? a : b`",
        "in" | "as" | "break" | "const" | "continue" | "for" | "function" | "import" | "let" | "loop"
        | "package" | "namespace" | "return" | "var" | "void" | "while" => "choose another name",
        _ => return Ok(()),
    };
    let message = format!("`{name}` cannot be used as a value");
    Err(Problem::new(Code::Syntax, span.clone(), message).help(help))
}
