//! The static checker: names, types, units, functions and arity, before anything runs.
//!
//! It finds all problems of an expression at once; what rests on a part that is already wrong is
//! not reported again.

mod call;

use crate::ast::{Ast, Kind as Shape, Operator};
use crate::expression::{Arithmetic, Constant, Expression, Input, Number, Root, Text, Truth, Window};
use crate::limits::{STEPS_MAX, TEXT_BYTES_MAX};
use crate::parser::Parsed;
use crate::problem::{Code, Problem, Span};
use crate::scope::{Kind, Scope};
use crate::types::Type;

/// Checks the expressions of one rule and gathers the inputs that they share.
#[derive(Clone, Debug)]
pub struct Compiler {
    scope: Scope,
    inputs: Vec<Input>,
}

impl Compiler {
    /// A compiler over these names.
    pub fn new(scope: Scope) -> Self {
        Self { scope, inputs: vec![] }
    }

    /// Declares a value of the rule's own, for the expressions that follow.
    pub fn declare_let(&mut self, name: &str, of: Type) {
        self.scope.declare(name, of, Kind::Let);
    }

    /// Takes a name away from the expressions that follow.
    pub fn forget(&mut self, name: &str) {
        self.scope.forget(name);
    }

    /// What the checked expressions are evaluated over, in the order of their slots.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Checks one expression; `wanted` is the type that its place needs.
    pub fn check(&mut self, parsed: &Parsed, wanted: Option<Type>) -> Result<Expression, Vec<Problem>> {
        debug_assert!(parsed.text.len() <= TEXT_BYTES_MAX, "the parser has looked");
        let mut checker = Checker {
            compiler: self,
            text: &parsed.text,
            problems: vec![],
            locals: vec![],
            weight: 1,
            steps: 0,
        };
        let checked = checker.check(&parsed.ast);
        if checker.steps > STEPS_MAX {
            let message =
                format!("this expression could take {} steps; the limit is {STEPS_MAX}", checker.steps);
            checker.problem(Code::Limit, &parsed.ast.span, message, Some("use shorter lists".into()));
        }
        let checked = checked.and_then(|it| checker.want(it, wanted, &parsed.ast.span));
        match checked {
            Some(checked) if checker.problems.is_empty() => Ok(checked.into_expression()),
            _ => Err(checker.problems),
        }
    }

    fn slot(&mut self, input: Input) -> usize {
        if let Some(slot) = self.inputs.iter().position(|known| *known == input) {
            return slot;
        }
        self.inputs.push(input);
        self.inputs.len() - 1
    }
}

/// A part whose type is known.
enum Checked {
    Number(Type, Number),
    Truth(Truth),
    Text(Text),
}

impl Checked {
    fn of(&self) -> Type {
        match self {
            Checked::Number(of, _) => *of,
            Checked::Truth(_) => Type::Bool,
            Checked::Text(_) => Type::Text,
        }
    }

    fn into_expression(self) -> Expression {
        let of = self.of();
        let root = match self {
            Checked::Number(_, node) => Root::Number(node),
            Checked::Truth(node) => Root::Truth(node),
            Checked::Text(node) => Root::Text(node),
        };
        Expression { of, root }
    }
}

struct Checker<'a> {
    compiler: &'a mut Compiler,
    text: &'a str,
    problems: Vec<Problem>,
    /// Variables of the comprehensions around.
    locals: Vec<String>,
    /// How often the present part is evaluated.
    weight: u64,
    steps: u64,
}

impl Checker<'_> {
    fn problem(&mut self, code: Code, span: &Span, message: impl Into<String>, help: Option<String>) {
        self.problems.push(Problem::new(code, span.clone(), message).maybe_help(help));
    }

    /// Notes a problem and gives nothing, for the end of a function.
    fn refuse<T>(
        &mut self,
        code: Code,
        span: &Span,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Option<T> {
        self.problem(code, span, message, help);
        None
    }

    fn source(&self, span: &Span) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    fn check(&mut self, ast: &Ast) -> Option<Checked> {
        self.steps = self.steps.saturating_add(self.weight);
        match &ast.kind {
            Shape::Number(number) => Some(Checked::Number(Type::Number, Number::Constant(*number))),
            Shape::Text(text) => Some(Checked::Text(Text::Constant(text.as_str().into()))),
            Shape::Bool(truth) => Some(Checked::Truth(Truth::Constant(*truth))),
            Shape::Name(_) | Shape::Select { .. } | Shape::Index { .. } => self.name(ast),
            Shape::Call { name, name_span, arguments } => self.call(ast, name, name_span, arguments),
            Shape::Method { of, name, name_span, arguments } => {
                self.method(ast, of, (name, name_span), arguments)
            }
            Shape::Negate(of) => self.negate(of),
            Shape::Not(of) => Some(Checked::Truth(Truth::Not(Box::new(self.truth(of)?)))),
            Shape::Binary { operator, operator_span, left, right } => {
                self.binary(*operator, operator_span, left, right)
            }
            Shape::If { condition, then, otherwise } => self.choice(condition, then, otherwise),
            Shape::List(_) => {
                let help = "write `x in [1, 2]` or `[1, 2].exists(n, n > x)`".to_owned();
                self.refuse(Code::Unsupported, &ast.span, "a list cannot stand here", Some(help))
            }
        }
    }

    fn name(&mut self, ast: &Ast) -> Option<Checked> {
        let Some(name) = ast.name() else { return self.no_name(ast) };
        if let Some(place) = self.locals.iter().rposition(|local| *local == name) {
            return Some(Checked::Number(Type::Number, Number::Local(place)));
        }
        let Some((of, kind)) = self.compiler.scope.get(&name) else {
            let help = self.compiler.scope.suggest(&name);
            let message = format!("`{}` is not a known name", self.source(&ast.span));
            return self.refuse(Code::UnknownName, &ast.span, message, help);
        };
        let input = match kind {
            Kind::Signal => Input::Signal(name),
            Kind::Parameter => Input::Parameter(name.strip_prefix("params.").unwrap_or(&name).to_owned()),
            Kind::Let => Input::Let(name),
        };
        let slot = self.compiler.slot(input);
        let span = ast.span.clone();
        Some(match of {
            Type::Bool => Checked::Truth(Truth::Input { slot, span }),
            Type::Text => Checked::Text(Text::Input { slot, span }),
            Type::Number | Type::Duration | Type::Bytes | Type::Cores => {
                Checked::Number(of, Number::Input { slot, span })
            }
        })
    }

    fn no_name(&mut self, ast: &Ast) -> Option<Checked> {
        match &ast.kind {
            Shape::Index { of, .. } if of.name().as_deref() == Some("queues") => {
                let help = "write the queue's name: `queues['high'].length`".to_owned();
                self.refuse(Code::Unsupported, &ast.span, "a queue is chosen by a quoted name", Some(help))
            }
            Shape::Index { .. } => {
                let help = "write `queues['high'].length` for one queue".to_owned();
                self.refuse(Code::Unsupported, &ast.span, "only `queues` can be indexed", Some(help))
            }
            Shape::Select { of, .. } => {
                self.check(of)?;
                self.refuse(Code::Type, &ast.span, "this value has no fields", None)
            }
            _ => None,
        }
    }

    fn negate(&mut self, of: &Ast) -> Option<Checked> {
        let (unit, node) = self.number(of)?;
        let node = if let Number::Constant(number) = node {
            Number::Constant(-number)
        } else {
            Number::Negate(Box::new(node))
        };
        Some(Checked::Number(unit, node))
    }

    fn choice(&mut self, condition: &Ast, then: &Ast, otherwise: &Ast) -> Option<Checked> {
        let condition = self.truth(condition);
        let (left, right) = (self.check(then), self.check(otherwise));
        let (condition, left, right) = (condition?, left?, right?);
        let span = then.span.start..otherwise.span.end;
        match (left, right) {
            (Checked::Number(of, a), Checked::Number(same, b)) if of == same => {
                Some(Checked::Number(of, Number::If(Box::new((condition, a, b)))))
            }
            (Checked::Truth(a), Checked::Truth(b)) => {
                Some(Checked::Truth(Truth::If(Box::new((condition, a, b)))))
            }
            (Checked::Text(a), Checked::Text(b)) => {
                Some(Checked::Text(Text::If(Box::new((condition, a, b)))))
            }
            (left, right) => {
                let message = format!("both values of `? :` need one type: {} and {}", left.of(), right.of());
                let help = self.unit_help((left.of(), then), (right.of(), otherwise));
                self.refuse(Code::Type, &span, message, help)
            }
        }
    }

    fn binary(&mut self, operator: Operator, at: &Span, left: &Ast, right: &Ast) -> Option<Checked> {
        match operator {
            Operator::And | Operator::Or => {
                let (a, b) = (self.truth(left), self.truth(right));
                let both = Box::new((a?, b?));
                Some(Checked::Truth(if operator == Operator::And {
                    Truth::And(both)
                } else {
                    Truth::Or(both)
                }))
            }
            Operator::In => self.membership(left, right),
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide => {
                self.arithmetic(operator, at, left, right)
            }
            _ => self.comparison(operator, at, left, right),
        }
    }

    fn arithmetic(&mut self, operator: Operator, at: &Span, left: &Ast, right: &Ast) -> Option<Checked> {
        let (a, b) = (self.check(left), self.check(right));
        let (a, b) = match (a?, b?) {
            (Checked::Number(a_of, a), Checked::Number(b_of, b)) => ((a_of, a), (b_of, b)),
            (a, b) => {
                let wrong = if a.of().is_numeric() { (b.of(), right) } else { (a.of(), left) };
                let message = format!("`{}` needs numbers; this is {}", operator.text(), wrong.0);
                let help = match wrong.0 {
                    Type::Bool => Some(format!("write `{} ? 1 : 0`", self.source(&wrong.1.span))),
                    _ => Some("rules compute no texts".to_owned()),
                };
                return self.refuse(Code::Type, &wrong.1.span, message, help);
            }
        };
        let of = match (operator, a.0, b.0) {
            (Operator::Add | Operator::Subtract, x, y) if x == y => Some(x),
            (Operator::Multiply, Type::Number, unit) => Some(unit),
            (Operator::Multiply | Operator::Divide, unit, Type::Number) => Some(unit),
            (Operator::Divide, x, y) if x == y => Some(Type::Number),
            _ => None,
        };
        let Some(of) = of else {
            let message = format!("`{}` does not go with {} and {}", operator.text(), a.0, b.0);
            let help = self.unit_help((a.0, left), (b.0, right));
            return self.refuse(Code::Type, at, message, help);
        };
        let span = left.span.start..right.span.end;
        if let (Number::Constant(x), Number::Constant(y)) = (&a.1, &b.1)
            && let Some(folded) = fold(operator, *x, *y)
        {
            return Some(Checked::Number(of, Number::Constant(folded)));
        }
        let node = Arithmetic { operator, left: a.1, right: b.1, span };
        Some(Checked::Number(of, Number::Arithmetic(Box::new(node))))
    }

    fn comparison(&mut self, operator: Operator, at: &Span, left: &Ast, right: &Ast) -> Option<Checked> {
        let (a, b) = (self.check(left), self.check(right));
        let equality = matches!(operator, Operator::Equal | Operator::NotEqual);
        let same = match (a?, b?) {
            (Checked::Number(a_of, a), Checked::Number(b_of, b)) if a_of == b_of => {
                return Some(Checked::Truth(Truth::Compare(Box::new((operator, a, b)))));
            }
            (Checked::Truth(a), Checked::Truth(b)) if equality => Truth::Agree(Box::new((a, b))),
            (Checked::Text(a), Checked::Text(b)) if equality => Truth::SameText(Box::new((a, b))),
            (a, b) => {
                let message = format!("`{}` does not compare {} with {}", operator.text(), a.of(), b.of());
                let chain = a.of() == Type::Bool && matches!(left.kind, Shape::Binary { .. });
                let help = if chain {
                    Some("write `a < b && b < c`".to_owned())
                } else {
                    self.unit_help((a.of(), left), (b.of(), right))
                };
                return self.refuse(Code::Type, at, message, help);
            }
        };
        Some(Checked::Truth(if operator == Operator::NotEqual { Truth::Not(Box::new(same)) } else { same }))
    }

    /// How to make two sides of one unit: a literal with the unit of the other side, else the side
    /// with a unit as a plain number.
    fn unit_help(&self, left: (Type, &Ast), right: (Type, &Ast)) -> Option<String> {
        let (plain, other) = match (left.0, right.0) {
            (Type::Number, _) => (left.1, right),
            (_, Type::Number) => (right.1, left),
            _ => return None,
        };
        let text = match (&plain.kind, other.0) {
            (Shape::Number(number), Type::Duration) => format!("duration('{number}s')"),
            (Shape::Number(number), Type::Bytes) => format!("bytes('{number}')"),
            (Shape::Number(number), Type::Cores) => format!("cores('{number}')"),
            _ => other.0.to_number(self.source(&other.1.span))?,
        };
        Some(format!("write `{text}`"))
    }

    fn truth(&mut self, ast: &Ast) -> Option<Truth> {
        match self.check(ast)? {
            Checked::Truth(truth) => Some(truth),
            other => {
                let help = format!("write `{} > 0`", self.source(&ast.span));
                let help = other.of().is_numeric().then_some(help);
                self.refuse(
                    Code::Type,
                    &ast.span,
                    format!("a condition is needed; this is {}", other.of()),
                    help,
                )
            }
        }
    }

    /// A number of any unit.
    fn number(&mut self, ast: &Ast) -> Option<(Type, Number)> {
        match self.check(ast)? {
            Checked::Number(of, number) => Some((of, number)),
            other => self.refuse(
                Code::Type,
                &ast.span,
                format!("a number is needed; this is {}", other.of()),
                None,
            ),
        }
    }

    /// A number without a unit.
    fn plain_number(&mut self, ast: &Ast) -> Option<Number> {
        let (of, number) = self.number(ast)?;
        if of == Type::Number {
            return Some(number);
        }
        let help = of.to_number(self.source(&ast.span)).map(|text| format!("write `{text}`"));
        self.refuse(Code::Type, &ast.span, format!("a number without a unit is needed; this is {of}"), help)
    }

    fn want(&mut self, checked: Checked, wanted: Option<Type>, span: &Span) -> Option<Checked> {
        let Some(wanted) = wanted.filter(|wanted| *wanted != checked.of()) else { return Some(checked) };
        let of = checked.of();
        let text = self.source(span);
        let help = match (wanted, of) {
            (Type::Number, Type::Bool) => Some(format!("write `{text} ? 1 : 0`")),
            (Type::Number, _) => of.to_number(text).map(|text| format!("write `{text}`")),
            (Type::Bool, of) if of.is_numeric() => Some(format!("write `{text} > 0`")),
            _ => None,
        };
        self.refuse(Code::Type, span, format!("{wanted} is needed here; this is {of}"), help)
    }

    fn window(&mut self, window: Window, of: Type, span: &Span) -> Checked {
        let slot = self.compiler.slot(Input::Window(window));
        Checked::Number(of, Number::Input { slot, span: span.clone() })
    }

    /// A number that is known before evaluation: a literal, or a parameter.
    fn constant(&mut self, ast: &Ast, wanted: Type) -> Option<Constant> {
        match self.check(ast)? {
            Checked::Number(of, Number::Constant(number)) if of == wanted => Some(Constant::Literal(number)),
            Checked::Number(of, Number::Input { slot, .. }) if of == wanted => {
                match &self.compiler.inputs[slot] {
                    Input::Parameter(name) => Some(Constant::Parameter(name.clone())),
                    _ => self.not_constant(ast, wanted),
                }
            }
            Checked::Text(Text::Constant(text)) if wanted == Type::Duration => {
                match crate::unit::duration(&text) {
                    Some(seconds) => Some(Constant::Literal(seconds)),
                    None => self.bad_literal(&ast.span, wanted, &text),
                }
            }
            _ => self.not_constant(ast, wanted),
        }
    }

    fn not_constant<T>(&mut self, ast: &Ast, wanted: Type) -> Option<T> {
        let example = if wanted == Type::Duration { "'5m'" } else { "0.95" };
        let message = format!("{wanted} that is known when the rule is loaded is needed here");
        self.refuse(
            Code::Type,
            &ast.span,
            message,
            Some(format!("write {example} or a parameter of that type")),
        )
    }

    fn bad_literal<T>(&mut self, span: &Span, wanted: Type, text: &str) -> Option<T> {
        let example = match wanted {
            Type::Duration => "'30s', '5m' or '1h30m'",
            Type::Bytes => "'100Mi', '1.5Gi' or '2G'",
            _ => "'500m' or '2'",
        };
        self.refuse(
            Code::Literal,
            span,
            format!("'{text}' is not {wanted}"),
            Some(format!("write {example}")),
        )
    }
}

/// Two constants in one; not where that would be a fault, which then happens where it is evaluated.
fn fold(operator: Operator, left: f64, right: f64) -> Option<f64> {
    let result = match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        _ => left / right,
    };
    Some(result).filter(|result| result.is_finite())
}
