//! The functions of rules, in one table: name, form, what it is for. The reference is made from it.

use std::ops::RangeInclusive;

use crate::expression::WindowFunction;
use crate::types::Type;

/// One function.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) signature: &'static str,
    pub(crate) about: &'static str,
    pub(crate) form: Form,
}

/// What a function of numbers computes.
pub(crate) type Run = fn(&[f64]) -> f64;

/// What a function takes and gives.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// Values of one unit; gives a value of that unit.
    SameUnit { least: usize, most: usize, run: Run },
    /// Numbers; gives a number.
    Numbers { count: usize, run: Run },
    /// A duration, or a text with one; gives its seconds.
    Seconds,
    /// A text with a unit, or a number of the base unit; gives an amount of this type.
    Amount(Type),
    /// Two cron patterns and a time zone.
    During,
    /// A time zone; gives the hour.
    Hour,
    /// A time zone; gives the day of the week.
    Weekday,
    /// A signal.
    Has,
    /// A window over a signal.
    Window(WindowFunction),
}

impl Form {
    /// How many arguments it takes.
    pub(crate) fn arity(self) -> RangeInclusive<usize> {
        match self {
            Form::SameUnit { least, most, .. } => least..=most,
            Form::Numbers { count, .. } => count..=count,
            Form::Seconds | Form::Amount(_) | Form::Hour | Form::Weekday | Form::Has => 1..=1,
            Form::Window(WindowFunction::MaxEver) => 1..=1,
            Form::Window(
                WindowFunction::Quantile
                | WindowFunction::PredictLinear
                | WindowFunction::DecayingQuantile
                | WindowFunction::DecayingPeakQuantile,
            )
            | Form::During => 3..=3,
            Form::Window(_) => 2..=2,
        }
    }
}

const fn function(name: &'static str, signature: &'static str, about: &'static str, form: Form) -> Function {
    Function { name, signature, about, form }
}

const fn window(
    name: &'static str,
    signature: &'static str,
    about: &'static str,
    of: WindowFunction,
) -> Function {
    function(name, signature, about, Form::Window(of))
}

const MANY: usize = 16;

pub(crate) static FUNCTIONS: [Function; 38] = [
    function("min", "min(a, b, ...)", "The smallest.", Form::SameUnit { least: 2, most: MANY, run: least }),
    function("max", "max(a, b, ...)", "The largest.", Form::SameUnit { least: 2, most: MANY, run: largest }),
    function(
        "clamp",
        "clamp(x, low, high)",
        "`x`, but not under `low` nor over `high`; `low` wins.",
        Form::SameUnit { least: 3, most: 3, run: |it| it[0].min(it[2]).max(it[1]) },
    ),
    function(
        "abs",
        "abs(x)",
        "Without its sign.",
        Form::SameUnit { least: 1, most: 1, run: |it| it[0].abs() },
    ),
    function("ceil", "ceil(x)", "Rounded up.", Form::Numbers { count: 1, run: |it| it[0].ceil() }),
    function("floor", "floor(x)", "Rounded down.", Form::Numbers { count: 1, run: |it| it[0].floor() }),
    function(
        "round",
        "round(x)",
        "Rounded, halves away from zero.",
        Form::Numbers { count: 1, run: |it| it[0].round() },
    ),
    function("sqrt", "sqrt(x)", "Square root.", Form::Numbers { count: 1, run: |it| it[0].sqrt() }),
    function(
        "exp",
        "exp(x)",
        "e to the power of `x`.",
        Form::Numbers { count: 1, run: |it| libm::exp(it[0]) },
    ),
    function("ln", "ln(x)", "Natural logarithm.", Form::Numbers { count: 1, run: |it| libm::log(it[0]) }),
    function(
        "pow",
        "pow(x, y)",
        "`x` to the power of `y`.",
        Form::Numbers { count: 2, run: |it| libm::pow(it[0], it[1]) },
    ),
    function("seconds", "seconds(duration)", "A duration as a number of seconds.", Form::Seconds),
    function(
        "duration",
        "duration('1h30m')",
        "A duration: from a text, or from a number of seconds.",
        Form::Amount(Type::Duration),
    ),
    function(
        "bytes",
        "bytes('100Mi')",
        "An amount of memory: from a text, or from a number of bytes.",
        Form::Amount(Type::Bytes),
    ),
    function(
        "cores",
        "cores('500m')",
        "An amount of processor: from a text, or from a number of cores.",
        Form::Amount(Type::Cores),
    ),
    function(
        "during",
        "during('0 8 * * 1-5', '0 18 * * 1-5', 'Europe/Berlin')",
        "Whether now lies between the times of the first cron pattern and those of the second, in a time zone.",
        Form::During,
    ),
    function("hour", "hour('Europe/Berlin')", "The hour of the day in a time zone, 0 to 23.", Form::Hour),
    function(
        "weekday",
        "weekday('Europe/Berlin')",
        "The day of the week in a time zone, 0 (Sunday) to 6.",
        Form::Weekday,
    ),
    function("has", "has(signal)", "Whether the signal was measured.", Form::Has),
    window("avg_over_time", "avg_over_time(signal, '5m')", "Mean of the samples.", WindowFunction::Avg),
    window("min_over_time", "min_over_time(signal, '5m')", "Smallest sample.", WindowFunction::Min),
    window("max_over_time", "max_over_time(signal, '5m')", "Largest sample.", WindowFunction::Max),
    window("sum_over_time", "sum_over_time(signal, '5m')", "Sum of the samples.", WindowFunction::Sum),
    window("count_over_time", "count_over_time(signal, '5m')", "Number of samples.", WindowFunction::Count),
    window(
        "last_over_time",
        "last_over_time(signal, '5m')",
        "Newest sample, also when the signal is missing now.",
        WindowFunction::Last,
    ),
    window(
        "quantile_over_time",
        "quantile_over_time(signal, '5m', 0.95)",
        "Quantile of the samples, of at most 200 points of the window.",
        WindowFunction::Quantile,
    ),
    window(
        "stddev_over_time",
        "stddev_over_time(signal, '5m')",
        "Standard deviation of the samples.",
        WindowFunction::Stddev,
    ),
    window("delta", "delta(signal, '5m')", "Newest sample minus oldest sample.", WindowFunction::Delta),
    window(
        "increase",
        "increase(signal, '5m')",
        "By how much a counter rose; a fall is a restart at zero.",
        WindowFunction::Increase,
    ),
    window("rate", "rate(signal, '5m')", "By how much a counter rose per second.", WindowFunction::Rate),
    window(
        "deriv",
        "deriv(signal, '5m')",
        "Slope of the line through the samples, per second.",
        WindowFunction::Deriv,
    ),
    window(
        "predict_linear",
        "predict_linear(signal, '5m', '1m')",
        "Where the line through the samples will be after the second duration.",
        WindowFunction::PredictLinear,
    ),
    window(
        "ewma",
        "ewma(signal, '30s')",
        "Mean in which a sample counts half after each half-life.",
        WindowFunction::Ewma,
    ),
    window("max_ever", "max_ever(signal)", "Largest sample ever.", WindowFunction::MaxEver),
    window(
        "decaying_quantile",
        "decaying_quantile(usage.cpu, '24h', 0.9)",
        "Quantile of all samples of all workers, each of which counts half after each half-life, in buckets that grow by 5 %; the end of the bucket.",
        WindowFunction::DecayingQuantile,
    ),
    window(
        "decaying_samples",
        "decaying_samples(usage.cpu, '24h')",
        "How many samples that histogram was ever fed.",
        WindowFunction::DecayingSamples,
    ),
    window(
        "decaying_lifespan",
        "decaying_lifespan(usage.cpu, '24h')",
        "Seconds between the first and the newest of them.",
        WindowFunction::DecayingLifespan,
    ),
    window(
        "decaying_peak_quantile",
        "decaying_peak_quantile(usage.memory, '24h', 0.9)",
        "Quantile of peaks: one of each worker for each window of that length, the running one included; a peak counts half after each further such time.",
        WindowFunction::DecayingPeakQuantile,
    ),
];

fn least(numbers: &[f64]) -> f64 {
    numbers.iter().copied().fold(f64::INFINITY, f64::min)
}

fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

pub(crate) fn window_name(of: WindowFunction) -> &'static str {
    let named = FUNCTIONS.iter().find(|function| matches!(function.form, Form::Window(it) if it == of));
    named.map_or("window", |function| function.name)
}

/// A function as the reference shows it.
#[derive(Clone, Copy, Debug)]
pub struct Documented {
    /// Its name.
    pub name: &'static str,
    /// How it is called.
    pub signature: &'static str,
    /// What it gives.
    pub about: &'static str,
    /// Whether it is over a window.
    pub is_window: bool,
}

/// All functions, in the order of the reference.
pub fn documented() -> impl Iterator<Item = Documented> {
    FUNCTIONS.iter().map(|function| Documented {
        name: function.name,
        signature: function.signature,
        about: function.about,
        is_window: matches!(function.form, Form::Window(_)),
    })
}
