//! What an expression may cost: everything beyond is refused when it is loaded, and the deepest that
//! is admitted runs on a small stack, also without optimisation.

use std::thread;

use qscaler_cel::limits::{DEPTH_MAX, TEXT_BYTES_MAX};
use qscaler_cel::{Code, Problem};

use crate::world::{World, compile};

/// A thread of an embedded program may have no more.
const STACK_BYTES: usize = 512 * 1024;

/// A way to be deep, as a function of the number of repetitions.
type Shape = (&'static str, fn(usize) -> String);

const SHAPES: [Shape; 13] = [
    ("parentheses", |n| format!("{}1{}", "(".repeat(n), ")".repeat(n))),
    ("calls", |n| format!("{}1{}", "abs(".repeat(n), ")".repeat(n))),
    ("calls with two arguments", |n| format!("{}1{}", "max(2,".repeat(n), ")".repeat(n))),
    ("sums", |n| format!("1{}", "+1".repeat(n))),
    ("sums to the right", |n| format!("{}1{}", "1+(".repeat(n), ")".repeat(n))),
    ("products", |n| format!("1{}", "*1".repeat(n))),
    ("minus", |n| format!("{}1", "-".repeat(n))),
    ("not", |n| format!("{}true", "!".repeat(n))),
    ("or", |n| format!("true{}", "||true".repeat(n))),
    ("choices to the right", |n| format!("{}1", "true?1:".repeat(n))),
    ("choices in the middle", |n| format!("{}1{}", "true?".repeat(n), ":1".repeat(n))),
    ("comparisons", |n| format!("{}true{}", "(".repeat(n), "==true)".repeat(n))),
    ("fields", |n| format!("a{}", ".a".repeat(n))),
];

#[test]
fn stack_of_512_kib_suffices_for_the_deepest_admitted_text_of_each_shape() {
    let run = || {
        for (shape, make) in SHAPES {
            let mut deepest = 0;
            for n in (1..=200).chain((200..=TEXT_BYTES_MAX).step_by(397)) {
                let text = make(n);
                if text.len() > TEXT_BYTES_MAX + 100 {
                    break;
                }
                match compile(&text) {
                    Ok((expression, inputs)) => {
                        expression.evaluate(&World::of(&inputs)).expect("it has a value");
                        deepest = n;
                    }
                    Err(problems) => assert!(is_refusal(&problems), "{shape} {n}: {problems:?}"),
                }
            }
            let least = if shape == "fields" { 0 } else { usize::from(DEPTH_MAX) / 4 };
            assert!(deepest >= least, "{shape}: only {deepest} admitted");
        }
    };
    let worker = thread::Builder::new().stack_size(STACK_BYTES).spawn(run).expect("a thread");
    worker.join().expect("no shape overflows the stack or panics");
}

fn is_refusal(problems: &[Problem]) -> bool {
    problems.iter().all(|problem| matches!(problem.code, Code::Limit | Code::UnknownName))
}

#[test]
fn the_bombs_that_stop_a_plain_interpreter_are_refused() {
    let nested = "[0,1,2,3,4,5,6,7,8,9].all(a,".repeat(7) + "a<99" + &")".repeat(7);
    let doubling = "[0].map(a,a+a)".to_owned() + &".map(a,a+a)".repeat(30);
    let terms = format!("1{}", "+1".repeat(2_000));
    let long = "1".repeat(TEXT_BYTES_MAX + 1);
    let wide_list = (0..300).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let wide = format!("[{wide_list}].all(a,[{wide_list}].all(b,a<b))");
    for bomb in [nested, doubling, terms, long, wide] {
        let problems = compile(&bomb).expect_err("a bomb is refused");
        let known = |code| matches!(code, Code::Limit | Code::UnknownFunction);
        assert!(problems.iter().all(|problem| known(problem.code)), "{problems:?}");
    }
}

#[test]
fn any_bytes_at_all_are_answered_and_never_panic() {
    let mut random = 0x5EED_u64;
    let alphabet: Vec<char> =
        "()[]{}.,?:!&|=<>+-*/%'\"\\ \n1e9.abqueuelength'äß\u{1F600}_0x".chars().collect();
    for _ in 0..20_000 {
        let text: String = (0..40)
            .map(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                alphabet[(random >> 33) as usize % alphabet.len()]
            })
            .collect();
        if let Err(problems) = compile(&text) {
            for problem in problems {
                assert!(
                    text.get(problem.span.clone()).is_some() || problem.span.end > text.len(),
                    "{text:?} {problem:?}"
                );
            }
        }
    }
}
