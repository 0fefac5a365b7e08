//! Times of day and week. Time-zone data is compiled in, so that a rule means the same everywhere.

use croner::Cron;
use croner::parser::CronParser;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A time zone that the expression names.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) zone: TimeZone,
    pub(crate) field: Field,
}

/// What is asked of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Hour,
    Weekday,
}

/// The times from each match of one pattern to the next match of another.
#[derive(Clone, Debug)]
pub(crate) struct During {
    begin: Cron,
    end: Cron,
    zone: TimeZone,
}

/// Reads a cron pattern of five fields that matches at least once.
pub(crate) fn cron(pattern: &str) -> Result<Cron, String> {
    if pattern.split_whitespace().count() != 5 {
        return Err("a cron pattern has five fields: minute, hour, day of month, month, day of week".into());
    }
    let cron = CronParser::new().parse(pattern).map_err(|error| error.to_string())?;
    if !can_match(&cron) {
        return Err("this cron pattern never matches".into());
    }
    Ok(cron)
}

/// Whether there is a day that matches. Asked of days and months alone, because a search for a
/// pattern that never matches goes on for years.
fn can_match(cron: &Cron) -> bool {
    const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let pattern = &cron.pattern;
    (1..=12).any(|month| {
        pattern.month_match(month).unwrap_or(false)
            && (pattern.is_dom_wildcard()
                || !pattern.is_dow_wildcard()
                || (1..=LONGEST[month as usize - 1])
                    .any(|day| pattern.days.is_bit_set(day as u16, 1).unwrap_or(false)))
    })
}

/// Finds a time zone by its IANA name.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

/// All IANA names, for suggestions.
pub(crate) fn zone_names() -> Vec<String> {
    jiff::tz::db().available().map(|name| name.to_string()).collect()
}

impl During {
    pub(crate) fn new(begin: Cron, end: Cron, zone: TimeZone) -> Self {
        Self { begin, end, zone }
    }

    /// Whether the end comes before the next begin.
    pub(crate) fn holds(&self, wall_ms: i64) -> bool {
        let now = at(wall_ms, &self.zone);
        let next = |cron: &Cron| cron.find_next_occurrence(&now, false).ok();
        match (next(&self.begin), next(&self.end)) {
            (Some(begin), Some(end)) => end < begin,
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }
}

impl Clock {
    pub(crate) fn read(&self, wall_ms: i64) -> f64 {
        let now = at(wall_ms, &self.zone);
        match self.field {
            Field::Hour => f64::from(now.hour()),
            Field::Weekday => f64::from(now.weekday().to_sunday_zero_offset()),
        }
    }
}

fn at(wall_ms: i64, zone: &TimeZone) -> Zoned {
    Timestamp::from_millisecond(wall_ms).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone())
}
