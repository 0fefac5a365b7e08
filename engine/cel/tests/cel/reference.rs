//! Our evaluation against the plain interpreter's: whatever both admit has the same value.

use cel::{Context, Program, Value as Plain};
use qscaler_cel::{Input, Kind, Value};

use crate::world::{World, compile, scope, value_of};

/// Writes random expressions over doubles and conditions, in the words that both have.
struct Writer(u64);

impl Writer {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn number(&mut self, depth: u32) -> String {
        if depth == 0 {
            return ["1.0", "2.5", "0.0", "10.0", "queue.length", "queue.arrivals"][self.below(6) as usize]
                .into();
        }
        let d = depth - 1;
        match self.below(7) {
            0 => format!("({} + {})", self.number(d), self.number(d)),
            1 => format!("{} - {}", self.number(d), self.number(d)),
            2 => format!("{} * {}", self.number(d), self.number(d)),
            3 => format!("({} / {})", self.number(d), self.number(d)),
            4 => format!("-({})", self.number(d)),
            5 => format!("({} ? {} : {})", self.truth(d), self.number(d), self.number(d)),
            _ => self.number(0),
        }
    }

    fn truth(&mut self, depth: u32) -> String {
        if depth == 0 {
            return ["true", "false"][self.below(2) as usize].into();
        }
        let d = depth - 1;
        match self.below(7) {
            0 => format!("({} && {})", self.truth(d), self.truth(d)),
            1 => format!("{} || {}", self.truth(d), self.truth(d)),
            2 => format!("!({})", self.truth(d)),
            3 => format!("{} < {}", self.number(d), self.number(d)),
            4 => format!("({} >= {})", self.number(d), self.number(d)),
            5 => format!("({} in [1.0, {}, 12.0])", self.number(d), self.number(d)),
            _ => format!("[1.0, {}].exists(n, n > {})", self.number(d), self.number(d)),
        }
    }
}

#[test]
fn what_both_admit_has_the_same_value() {
    let mut writer = Writer(seed());
    let (mut same, mut faults) = (0, 0);
    for _ in 0..4_000 {
        let depth = 1 + writer.below(4) as u32;
        let text = if writer.below(2) == 0 { writer.number(depth) } else { writer.truth(depth) };
        let (expression, inputs) = compile(&text).expect("the writer writes good expressions");
        let ours = expression.evaluate(&World::of(&inputs));
        let plain = Program::compile(&text).expect("for both").execute(&plain_context());
        match (ours, plain) {
            (Ok(Value::Number(a)), Ok(Plain::Float(b))) => {
                assert_eq!(a.to_bits(), b.to_bits(), "{text}");
            }
            (Ok(Value::Bool(a)), Ok(Plain::Bool(b))) => assert_eq!(a, b, "{text}"),
            // The plain interpreter computes the whole list first and cannot compare what is no number; we
            // look at an element only while the answer is open.
            (Ok(_), Err(_)) if text.contains(".exists(") => {
                faults += 1;
                continue;
            }
            (Ok(ours), plain) => panic!("{text}: ours {ours}, plain {plain:?}"),
            // The plain interpreter computes on with infinities and what is no number; we say so instead.
            (Err(_), _) => {
                faults += 1;
                continue;
            }
        }
        same += 1;
    }
    assert!(same > 2_000 && faults > 50, "{same} agreed, {faults} faults: too few to prove anything");
}

fn plain_context() -> Context<'static, 'static> {
    let mut context = Context::default();
    let number =
        |name: &str| value_of(&Input::Signal(name.into())).and_then(|value| value.number()).expect("known");
    assert!(matches!(scope().get("queue.length"), Some((_, Kind::Signal))));
    let queue = std::collections::HashMap::from([
        ("length", number("queue.length")),
        ("arrivals", number("queue.arrivals")),
    ]);
    context.add_variable("queue", queue).expect("a map is a value");
    context
}

fn seed() -> u64 {
    std::env::var("QSCALER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}
