//! Loads: the bundled one, and recorded ones.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// One task of a load.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadTask {
    /// When it arrives, after the begin.
    pub at: Duration,
    /// How long it takes.
    pub seconds: f64,
}

/// Tasks in the order of their arrival.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The tasks.
    pub tasks: Vec<LoadTask>,
    /// It is the bundled one, of which is known how many workers it should take.
    pub bundled: bool,
}

/// A part of the bundled load: until when, tasks per second, mean seconds of a task.
const PARTS: [(f64, f64, f64); 4] = [(10.0, 0.8, 0.8), (30.0, 9.0, 1.6), (44.0, 0.5, 0.6), (52.0, 0.25, 0.5)];
/// Tasks take 0.2 to 8 s.
const SECONDS: (f64, f64) = (0.2, 8.0);
/// A recorded task takes a year at most; a longer one is a slip in its column.
const SECONDS_MAX: f64 = 365.0 * 86_400.0;

impl Load {
    /// Calm, burst, quiet: about 200 tasks of 0.2 to 8 s within 52 s. The same for the same seed.
    pub fn bundled(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut tasks = vec![];
        let mut now = 0.0;
        for (until, rate, mean) in PARTS {
            loop {
                // Poisson arrivals, exponential durations: the usual textbook queue, cut to the range.
                now += random.exponential(1.0 / rate);
                if now >= until {
                    now = until;
                    break;
                }
                let seconds = random.exponential(mean).clamp(SECONDS.0, SECONDS.1);
                tasks.push(LoadTask { at: Duration::from_secs_f64(now), seconds });
            }
        }
        Self { tasks, bundled: true }
    }

    /// Reads a recorded load: CSV with a header, in any order of rows and columns. Times and durations
    /// are divided by `speed`.
    pub fn read(path: &Path, speed: f64) -> Result<Self, String> {
        let failed = |error: String| format!("{}: {error}", path.display());
        let mut reader = csv::Reader::from_path(path).map_err(|error| failed(error.to_string()))?;
        let header = reader.headers().map_err(|error| failed(error.to_string()))?.clone();
        let column = |names: &[&str]| {
            let found = header.iter().position(|name| names.contains(&name.trim()));
            found.ok_or_else(|| {
                let there: Vec<_> = header.iter().map(str::trim).collect();
                failed(format!(
                    "there is no column {}; in the first line stand: {}",
                    names.join(" or "),
                    there.join(", ")
                ))
            })
        };
        let arrival = column(&["arrival_s", "arrival", "arrival_utc"])?;
        let service = column(&["service_s", "seconds", "exec_seconds"])?;
        let mut rows = vec![];
        for row in reader.records() {
            let row = row.map_err(|error| failed(error.to_string()))?;
            let line = row.position().map_or(0, csv::Position::line);
            let wrong = |name: usize, help: &str| {
                let text = row.get(name).unwrap_or_default();
                failed(format!("line {line}: {} `{text}`: {help}", &header[name]))
            };
            let at = row.get(arrival).and_then(moment).ok_or_else(|| {
                wrong(arrival, "write seconds, such as 12.5, or a date, such as 2026-01-05T12:03:20Z")
            })?;
            let seconds = row.get(service).and_then(|text| text.trim().parse().ok());
            let seconds = seconds
                .filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
                .ok_or_else(|| wrong(service, "write seconds, such as 2.5"))?;
            rows.push((at, seconds));
        }
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let begin = rows.first().ok_or_else(|| failed("there is no task under the first line".into()))?.0;
        let task = |(at, seconds): &(f64, f64)| {
            let at = Duration::try_from_secs_f64((at - begin) / speed);
            at.map(|at| LoadTask { at, seconds: seconds / speed })
                .map_err(|_| failed("the arrivals are too far apart; choose a higher --speed".into()))
        };
        Ok(Self { tasks: rows.iter().map(task).collect::<Result<_, _>>()?, bundled: false })
    }

    /// When the last task arrives.
    pub fn duration(&self) -> Duration {
        self.tasks.last().map_or(Duration::ZERO, |task| task.at)
    }

    /// How long after that the demo waits for all of them to be done.
    pub(super) fn patience(&self) -> Duration {
        let longest = self.tasks.iter().map(|task| task.seconds).fold(0.0, f64::max);
        Duration::from_secs_f64(90.0 + 3.0 * longest)
    }

    /// Seconds of work.
    pub fn work_seconds(&self) -> f64 {
        self.tasks.iter().map(|task| task.seconds).sum()
    }
}

/// Seconds, from a number or a date.
fn moment(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds).filter(|seconds| seconds.is_finite());
    }
    let timestamp = text.parse::<Timestamp>().ok().or_else(|| {
        let date: DateTime = text.parse().ok()?;
        date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })?;
    Some(timestamp.as_millisecond() as f64 / 1000.0)
}

/// Xorshift: the same load for the same seed, on every machine.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// From 0 up to 1, without 0.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }
}
