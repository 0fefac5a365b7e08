//! What the parser sees, before names and types are known.

use crate::problem::Span;

/// A node with its place. `depth` counts itself and what is deepest under it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ast {
    pub(crate) span: Span,
    pub(crate) depth: u16,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Number(f64),
    Text(String),
    Bool(bool),
    Name(String),
    /// `of.field`
    Select {
        of: Box<Ast>,
        field: String,
    },
    /// `of[key]`
    Index {
        of: Box<Ast>,
        key: Box<Ast>,
    },
    /// `name(arguments)`
    Call {
        name: String,
        name_span: Span,
        arguments: Vec<Ast>,
    },
    /// `of.name(arguments)`
    Method {
        of: Box<Ast>,
        name: String,
        name_span: Span,
        arguments: Vec<Ast>,
    },
    /// `-of`
    Negate(Box<Ast>),
    /// `!of`
    Not(Box<Ast>),
    Binary {
        operator: Operator,
        operator_span: Span,
        left: Box<Ast>,
        right: Box<Ast>,
    },
    /// `condition ? then : otherwise`
    If {
        condition: Box<Ast>,
        then: Box<Ast>,
        otherwise: Box<Ast>,
    },
    List(Vec<Ast>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Operator {
    pub(crate) const ALL: [Operator; 13] = [
        Operator::Or,
        Operator::And,
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
        Operator::In,
        Operator::Add,
        Operator::Subtract,
        Operator::Multiply,
        Operator::Divide,
    ];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Operator::Or => "||",
            Operator::And => "&&",
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::In => "in",
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
        }
    }

    /// How strongly it binds; all binary operators group to the left.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Operator::Or => 1,
            Operator::And => 2,
            Operator::Equal
            | Operator::NotEqual
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::In => 3,
            Operator::Add | Operator::Subtract => 4,
            Operator::Multiply | Operator::Divide => 5,
        }
    }
}

impl Ast {
    /// The dotted name that this node spells, `queues['high'].length` included.
    pub(crate) fn name(&self) -> Option<String> {
        match &self.kind {
            Kind::Name(name) => Some(name.clone()),
            Kind::Select { of, field } => Some(format!("{}.{field}", of.name()?)),
            Kind::Index { of, key } => match (&of.kind, &key.kind) {
                (Kind::Name(name), Kind::Text(key)) if name == "queues" => Some(format!("queues['{key}']")),
                _ => None,
            },
            _ => None,
        }
    }

    /// The nodes right under this one, in the order of the text.
    pub(crate) fn children(&self) -> Vec<&Ast> {
        match &self.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Bool(_) | Kind::Name(_) => vec![],
            Kind::Select { of, .. } | Kind::Negate(of) | Kind::Not(of) => vec![of],
            Kind::Index { of, key } => vec![of, key],
            Kind::Call { arguments, .. } | Kind::List(arguments) => arguments.iter().collect(),
            Kind::Method { of, arguments, .. } => std::iter::once(&**of).chain(arguments).collect(),
            Kind::Binary { left, right, .. } => vec![left, right],
            Kind::If { condition, then, otherwise } => vec![condition, then, otherwise],
        }
    }
}
