//! A moment as it is typed.

use std::time::Duration;

use jiff::civil;

use qscaler_cel::unit;
use qscaler_core::time::Time;

/// A day of UTC in milliseconds.
const DAY: i64 = 86_400_000;

/// A moment as it is typed.
#[derive(Clone, Copy)]
pub(super) enum Moment {
    Ago(Duration),
    Exact(Time),
    /// In milliseconds of this day, or of yesterday when it lies ahead.
    OfDay(Time),
}

impl Moment {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(seconds) = unit::duration(text) {
            let ago = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
            return Ok(Moment::Ago(ago));
        }
        if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
            return Ok(Moment::Exact(meant(timestamp.as_millisecond(), text)));
        }
        let time = text.trim_end_matches('Z').parse::<civil::Time>();
        let time =
            time.map_err(|_| "write `12:03`, `12:03:20`, `2026-01-05T12:03:20Z` or `5m`".to_owned())?;
        let since_midnight = time.duration_since(civil::Time::midnight());
        let milliseconds = i64::try_from(since_midnight.as_millis()).map_err(|error| error.to_string())?;
        Ok(Moment::OfDay(meant(milliseconds, text)))
    }

    pub(super) fn wall(self, now: Time) -> Time {
        match self {
            Moment::Ago(ago) => now - ago,
            Moment::Exact(at) => at,
            Moment::OfDay(time) => {
                let midnight = now.0.div_euclid(DAY) * DAY;
                let today = Time(midnight + time.0);
                if today.0 > now.0 + 60_000 { Time(today.0 - DAY) } else { today }
            }
        }
    }
}

/// The moment that a text without fraction means: up to the end of that second.
fn meant(milliseconds: i64, text: &str) -> Time {
    Time(if text.contains('.') { milliseconds } else { milliseconds + 999 })
}
