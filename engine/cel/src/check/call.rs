//! Calls: functions, windows, comprehensions, `in`.

use std::ops::RangeInclusive;

use super::{Checked, Checker};
use crate::ast::{Ast, Kind as Shape};
use crate::calendar::{self, Clock, During, Field};
use crate::expression::{
    Call, Constant, Input, Number, Quantified, Quantifier, Text, Truth, Window, WindowFunction,
};
use crate::functions::{FUNCTIONS, Form, Function, Run, find};
use crate::limits::COMPREHENSIONS_MAX;
use crate::problem::{Code, Span, closest};
use crate::scope::Kind;
use crate::types::Type;
use crate::unit;

impl Checker<'_> {
    /// Each form is a function of its own: calls nest, and one function with the variables of all forms
    /// would take several times the stack.
    pub(super) fn call(
        &mut self,
        ast: &Ast,
        name: &str,
        name_span: &Span,
        arguments: &[Ast],
    ) -> Option<Checked> {
        let Some(function) = find(name) else { return self.unknown_function(name, name_span) };
        let wanted = function.form.arity();
        self.arity(function, ast, arguments, wanted)?;
        match function.form {
            Form::SameUnit { run, .. } => self.same_unit(ast, function, run, arguments),
            Form::Numbers { run, .. } => self.numbers(ast, function, run, arguments),
            Form::Seconds => self.converted(&arguments[0], Type::Duration, Type::Duration, Type::Number),
            Form::Amount(of) => self.converted(&arguments[0], of, Type::Number, of),
            Form::During => self.during(arguments),
            Form::Hour => self.clock(Field::Hour, &arguments[0]),
            Form::Weekday => self.clock(Field::Weekday, &arguments[0]),
            Form::Has => self.has(&arguments[0]),
            Form::Window(of) => self.window_call(ast, of, arguments),
        }
    }

    fn numbers(&mut self, ast: &Ast, function: &Function, run: Run, arguments: &[Ast]) -> Option<Checked> {
        let checked: Vec<_> = arguments.iter().map(|one| self.plain_number(one)).collect();
        let arguments = checked.into_iter().collect::<Option<Vec<_>>>()?;
        let call = Call { name: function.name, run, arguments, span: ast.span.clone() };
        Some(Checked::Number(Type::Number, Number::Call(Box::new(call))))
    }

    fn during(&mut self, arguments: &[Ast]) -> Option<Checked> {
        let (begin, end) = (self.cron(&arguments[0]), self.cron(&arguments[1]));
        let zone = self.zone(&arguments[2]);
        Some(Checked::Truth(Truth::During(Box::new(During::new(begin?, end?, zone?)))))
    }

    fn clock(&mut self, field: Field, zone: &Ast) -> Option<Checked> {
        let zone = self.zone(zone)?;
        Some(Checked::Number(Type::Number, Number::Clock(Box::new(Clock { zone, field }))))
    }

    fn has(&mut self, signal: &Ast) -> Option<Checked> {
        let (name, _) = self.signal(signal)?;
        let slot = self.compiler.slot(Input::Signal(name));
        Some(Checked::Truth(Truth::Measured(slot)))
    }

    fn unknown_function(&mut self, name: &str, span: &Span) -> Option<Checked> {
        let help = match closest(name, FUNCTIONS.iter().map(|function| function.name)) {
            Some(meant) => Some(format!("did you mean `{meant}`?")),
            None => match name {
                "size" | "map" | "filter" | "string" | "format" | "split" | "join" => {
                    Some("rules build no texts and no lists".to_owned())
                }
                "int" | "uint" | "double" => Some("all numbers are doubles: leave it out".to_owned()),
                "timestamp" | "now" => Some("use during(...), hour(...) or weekday(...)".to_owned()),
                _ => None,
            },
        };
        self.refuse(Code::UnknownFunction, span, format!("there is no function `{name}`"), help)
    }

    fn arity(
        &mut self,
        function: &Function,
        ast: &Ast,
        arguments: &[Ast],
        wanted: RangeInclusive<usize>,
    ) -> Option<()> {
        if wanted.contains(&arguments.len()) {
            return Some(());
        }
        let wanted = match (wanted.start(), wanted.end()) {
            (1, 1) => "one argument".to_owned(),
            (a, b) if a == b => format!("{a} arguments"),
            (a, b) => format!("{a} to {b} arguments"),
        };
        let message = format!("`{}` takes {wanted}, not {}", function.name, arguments.len());
        self.refuse(Code::Arity, &ast.span, message, Some(format!("write {}", function.signature)))
    }

    fn same_unit(&mut self, ast: &Ast, function: &Function, run: Run, arguments: &[Ast]) -> Option<Checked> {
        let checked: Vec<_> = arguments.iter().map(|one| self.number(one)).collect();
        let checked = checked.into_iter().collect::<Option<Vec<_>>>()?;
        let of = checked[0].0;
        if let Some(place) = checked.iter().position(|(unit, _)| *unit != of) {
            return self.mixed_units(function, (of, &arguments[0]), (checked[place].0, &arguments[place]));
        }
        let arguments = checked.into_iter().map(|(_, number)| number).collect();
        let call = Call { name: function.name, run, arguments, span: ast.span.clone() };
        Some(Checked::Number(of, Number::Call(Box::new(call))))
    }

    fn mixed_units(
        &mut self,
        function: &Function,
        first: (Type, &Ast),
        other: (Type, &Ast),
    ) -> Option<Checked> {
        let message = format!("`{}` needs values of one unit: {} and {}", function.name, first.0, other.0);
        let help = self.unit_help(first, other);
        self.refuse(Code::Type, &other.1.span, message, help)
    }

    /// A text literal of the type `literal`, or a value of the type `from`, as a value of the type `to`.
    fn converted(&mut self, ast: &Ast, literal: Type, from: Type, to: Type) -> Option<Checked> {
        match self.check(ast)? {
            Checked::Text(Text::Constant(text)) => {
                let number = match literal {
                    Type::Duration => unit::duration(&text),
                    Type::Bytes => unit::bytes(&text),
                    _ => unit::cores(&text),
                };
                match number {
                    Some(number) => Some(Checked::Number(to, Number::Constant(number))),
                    None => self.bad_literal(&ast.span, literal, &text),
                }
            }
            Checked::Number(of, number) if of == from => Some(Checked::Number(to, number)),
            other => {
                let message = format!("{from} or a quoted one is needed; this is {}", other.of());
                let help = (other.of() == to).then(|| "it already is one: leave the call out".to_owned());
                self.refuse(Code::Type, &ast.span, message, help)
            }
        }
    }

    fn quoted(&mut self, ast: &Ast, what: &str) -> Option<String> {
        if let Shape::Text(text) = &ast.kind {
            return Some(text.clone());
        }
        let message = format!("{what} is a quoted text, known when the rule is loaded");
        self.refuse(Code::Type, &ast.span, message, None)
    }

    fn cron(&mut self, ast: &Ast) -> Option<croner::Cron> {
        let pattern = self.quoted(ast, "a cron pattern")?;
        match calendar::cron(&pattern) {
            Ok(cron) => Some(cron),
            Err(reason) => {
                let help = Some("write '0 8 * * 1-5' for 8:00 on working days".to_owned());
                self.refuse(Code::Literal, &ast.span, format!("'{pattern}': {reason}"), help)
            }
        }
    }

    fn zone(&mut self, ast: &Ast) -> Option<jiff::tz::TimeZone> {
        let name = self.quoted(ast, "a time zone")?;
        if let Some(zone) = calendar::zone(&name) {
            return Some(zone);
        }
        let names = calendar::zone_names();
        let help = match closest(&name, names.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean '{meant}'?"),
            None => "write 'UTC' or a name such as 'Europe/Berlin'".to_owned(),
        };
        self.refuse(Code::Literal, &ast.span, format!("'{name}' is not a time zone"), Some(help))
    }

    /// The name and type of a signal.
    fn signal(&mut self, ast: &Ast) -> Option<(String, Type)> {
        if let Some(name) = ast.name() {
            match self.compiler.scope.get(&name) {
                Some((of, Kind::Signal)) => return Some((name, of)),
                Some(_) => {}
                None => {
                    self.name(ast);
                    return None;
                }
            }
        }
        let help =
            "name a signal, such as `queue.length`; compute under `let` and outside the window".to_owned();
        self.refuse(Code::Type, &ast.span, "only a signal can be asked for here", Some(help))
    }

    fn window_call(&mut self, ast: &Ast, of: WindowFunction, arguments: &[Ast]) -> Option<Checked> {
        if !self.locals.is_empty() {
            let help = Some("name the window under `let`".to_owned());
            return self.refuse(
                Code::Unsupported,
                &ast.span,
                "a window cannot stand in a comprehension",
                help,
            );
        }
        let signal = self.signal(&arguments[0]);
        let length = match arguments.get(1) {
            Some(length) => self.constant(length, Type::Duration),
            // Without a length it reaches back to the begin.
            None => Some(Constant::Literal(0.0)),
        };
        let argument = match of {
            WindowFunction::Quantile
            | WindowFunction::DecayingQuantile
            | WindowFunction::DecayingPeakQuantile => Some(self.constant(&arguments[2], Type::Number)?),
            WindowFunction::PredictLinear => Some(self.constant(&arguments[2], Type::Duration)?),
            _ => None,
        };
        let ((signal, unit), length) = (signal?, length?);
        if !unit.is_numeric() {
            return self.refuse(
                Code::Type,
                &arguments[0].span,
                format!("a window needs numbers; this is {unit}"),
                None,
            );
        }
        if of.is_decaying() && !matches!(unit, Type::Cores | Type::Bytes) {
            let message = "a decaying histogram is kept of amounts of processor and memory only";
            let help = Some("write `usage.cpu` or `usage.memory`".to_owned());
            return self.refuse(Code::Type, &arguments[0].span, message, help);
        }
        self.bounds(&arguments[1..], &length, argument.as_ref())?;
        let gives = match of {
            WindowFunction::Count
            | WindowFunction::Rate
            | WindowFunction::Deriv
            | WindowFunction::DecayingSamples
            | WindowFunction::DecayingLifespan => Type::Number,
            _ => unit,
        };
        Some(self.window(Window { function: of, signal, length, argument }, gives, &ast.span))
    }

    fn bounds(&mut self, arguments: &[Ast], length: &Constant, argument: Option<&Constant>) -> Option<()> {
        use Constant::Literal;
        if arguments.is_empty() {
            return Some(());
        }
        if let Literal(seconds) = length
            && !(1.0..=31.0 * 86_400.0).contains(seconds)
        {
            let message = "a window is 1s to 31d long";
            return self.refuse(Code::Literal, &arguments[0].span, message, None);
        }
        if let (Some(Literal(quantile)), Some(second)) = (argument, arguments.get(1))
            && matches!(second.kind, Shape::Number(_))
            && !(0.0..=1.0).contains(quantile)
        {
            return self.refuse(
                Code::Literal,
                &second.span,
                "a quantile is 0 to 1",
                Some("write 0.95".into()),
            );
        }
        Some(())
    }

    pub(super) fn method(
        &mut self,
        ast: &Ast,
        of: &Ast,
        (name, name_span): (&str, &Span),
        arguments: &[Ast],
    ) -> Option<Checked> {
        let quantifier = match name {
            "all" => Quantifier::All,
            "exists" => Quantifier::Exists,
            "exists_one" => Quantifier::ExistsOne,
            _ => return self.no_method(of, name, name_span),
        };
        let Shape::List(elements) = &of.kind else {
            let help = Some(format!("write `[1, 2].{name}(n, n > x)`"));
            return self.refuse(Code::Unsupported, &of.span, format!("`.{name}` needs a list literal"), help);
        };
        let [variable, body] = arguments else {
            let help = Some(format!("write `[1, 2].{name}(n, n > x)`"));
            return self.refuse(
                Code::Arity,
                &ast.span,
                format!("`.{name}` takes a variable and a condition"),
                help,
            );
        };
        let Shape::Name(variable_name) = &variable.kind else {
            return self.refuse(Code::Type, &variable.span, "a variable's name is needed here", None);
        };
        if self.locals.len() as u32 >= COMPREHENSIONS_MAX {
            let message = format!("at most {COMPREHENSIONS_MAX} comprehensions may stand in each other");
            return self.refuse(Code::Limit, &ast.span, message, None);
        }
        let checked: Vec<_> = elements.iter().map(|one| self.plain_number(one)).collect();
        let outer = self.weight;
        self.weight = self.weight.saturating_mul(elements.len().max(1) as u64);
        self.locals.push(variable_name.clone());
        let body = self.truth(body);
        self.locals.pop();
        self.weight = outer;
        let elements = checked.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Checked::Truth(Truth::Quantified(Box::new(Quantified { quantifier, elements, body: body? }))))
    }

    fn no_method(&mut self, of: &Ast, name: &str, span: &Span) -> Option<Checked> {
        let help = if find(name).is_some() {
            let inside = if of.name().as_deref() == Some("math") { "x" } else { self.source(&of.span) };
            Some(format!("write `{name}({inside})`"))
        } else if matches!(name, "map" | "filter" | "sort" | "split" | "join") {
            Some("rules build no texts and no lists".to_owned())
        } else {
            closest(name, ["all", "exists", "exists_one"]).map(|meant| format!("did you mean `.{meant}`?"))
        };
        self.refuse(Code::UnknownFunction, span, format!("there is no `.{name}(...)`"), help)
    }

    pub(super) fn membership(&mut self, left: &Ast, right: &Ast) -> Option<Checked> {
        let Shape::List(elements) = &right.kind else {
            let help = Some("write `x in [1, 2]`".to_owned());
            return self.refuse(Code::Unsupported, &right.span, "`in` needs a list literal", help);
        };
        let wanted = self.check(left);
        let checked: Vec<_> = elements.iter().map(|one| Some((self.check(one)?, one))).collect();
        let wanted = wanted?;
        let checked = checked.into_iter().collect::<Option<Vec<_>>>()?;
        if let Some((other, at)) = checked.iter().find(|(one, _)| one.of() != wanted.of()) {
            let message = format!("`in` looks for {} among {}", wanted.of(), other.of());
            let help = self.unit_help((wanted.of(), left), (other.of(), at));
            return self.refuse(Code::Type, &at.span, message, help);
        }
        let list = checked.into_iter().map(|(one, _)| one);
        match wanted {
            Checked::Number(_, wanted) => {
                let list =
                    list.filter_map(|one| if let Checked::Number(_, it) = one { Some(it) } else { None });
                Some(Checked::Truth(Truth::NumberIn(Box::new((wanted, list.collect())))))
            }
            Checked::Text(wanted) => {
                let list = list.filter_map(|one| if let Checked::Text(it) = one { Some(it) } else { None });
                Some(Checked::Truth(Truth::TextIn(Box::new((wanted, list.collect())))))
            }
            Checked::Truth(_) => self.refuse(Code::Type, &left.span, "`in` looks for numbers or texts", None),
        }
    }
}
