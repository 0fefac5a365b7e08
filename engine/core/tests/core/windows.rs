//! Windows: what they say, how little they keep.

use qscaler_core::time::Time;
use qscaler_core::window::Window;

const MINUTE: u64 = 60_000;

/// A window of five minutes that was fed a value every second.
fn fed(function: &str, values: impl IntoIterator<Item = f64>) -> (Window, Time) {
    let mut window = Window::default();
    let mut now = Time(1_000_000_000);
    for value in values {
        now = Time(now.0 + 1000);
        window.feed(function, 5 * MINUTE, now, value);
    }
    (window, now)
}

fn read(function: &str, argument: Option<f64>, values: impl IntoIterator<Item = f64>) -> f64 {
    let (window, now) = fed(function, values);
    window.read(function, 5 * MINUTE, argument, now).unwrap()
}

fn about(found: f64, expected: f64) {
    assert!((found - expected).abs() <= expected.abs() * 1e-9 + 1e-9, "{found} and not {expected}");
}

#[test]
fn each_function_says_what_its_name_says() {
    let steps = || (1..=100).map(f64::from);
    about(read("avg", None, steps()), 50.5);
    about(read("min", None, steps()), 1.0);
    about(read("max", None, steps()), 100.0);
    about(read("sum", None, steps()), 5050.0);
    about(read("count", None, steps()), 100.0);
    about(read("last", None, steps()), 100.0);
    about(read("delta", None, steps()), 99.0);
    about(read("increase", None, steps()), 99.0);
    about(read("rate", None, steps()), 1.0);
    about(read("deriv", None, steps()), 1.0);
    about(read("predictlinear", Some(60.0), steps()), 160.0);
    about(read("stddev", None, steps()), 833.25_f64.sqrt());
}

#[test]
fn a_counter_that_restarts_goes_on_counting() {
    about(read("increase", None, [10.0, 20.0, 30.0, 5.0, 15.0]), 35.0);
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let (window, now) = fed("max", (0..1000).map(|step| if step < 100 { 99.0 } else { 1.0 }));
    assert_eq!(window.read("max", 5 * MINUTE, None, now), Some(1.0));
    let later = Time(now.0 + 6 * 60_000);
    assert_eq!(
        window.read("max", 5 * MINUTE, None, later),
        None,
        "nothing was fed for longer than the window"
    );
}

#[test]
fn a_quantile_is_between_its_neighbours() {
    let mut window = Window::default();
    for (step, value) in [5.0, 1.0, 3.0, 2.0].into_iter().enumerate() {
        window.feed("quantile", 5 * MINUTE, Time(10_000 * step as i64), value);
    }
    for (part, value) in [(0.0, 1.0), (0.5, 2.5), (1.0, 5.0)] {
        about(window.read("quantile", 5 * MINUTE, Some(part), Time(30_000)).unwrap(), value);
    }
    let of_many = read("quantile", Some(0.9), (0..300).map(f64::from));
    assert!((of_many - 270.0).abs() < 3.0, "{of_many}: of 300 samples 200 are kept");
}

#[test]
fn a_sample_counts_half_after_a_half_life() {
    let mut window = Window::default();
    window.feed("ewma", 30_000, Time(0), 8.0);
    window.feed("ewma", 30_000, Time(30_000), 0.0);
    about(window.read("ewma", 30_000, None, Time(30_000)).unwrap(), 4.0);
}

#[test]
fn one_sample_counts_once_however_often_it_is_seen() {
    let mut window = Window::default();
    for _ in 0..5 {
        window.feed("sum", MINUTE, Time(1000), 7.0);
    }
    assert_eq!(window.read("sum", MINUTE, None, Time(1000)), Some(7.0));
}

#[test]
fn no_window_keeps_more_than_its_buckets_however_long_it_is_fed() {
    for function in ["avg", "min", "stddev", "rate", "predictlinear", "quantile", "ewma"] {
        let mut window = Window::default();
        for step in 0..20_000 {
            window.feed(function, 10 * MINUTE, Time(step * 500), 0.1 * step as f64);
        }
        let text = serde_json::to_string(&window).unwrap();
        let numbers = text.split(',').count();
        let most = if function == "quantile" { 2 * 202 } else { 4 * 62 };
        assert!(numbers <= most, "{function} keeps {numbers} numbers");
    }
}

#[test]
fn a_window_comes_back_from_its_text_bit_by_bit() {
    let (window, _) = fed("stddev", (0..700).map(|step| f64::from(step) / 3.0));
    let text = serde_json::to_string(&window).unwrap();
    assert_eq!(serde_json::from_str::<Window>(&text).unwrap(), window);
}
