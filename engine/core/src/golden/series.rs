//! PromQL's notation for series in tests: `1 2 3`, `0+10x5` (0 10 20 30 40 50), `400x8` (nine times
//! 400), `_` and `_x3` (missing), `stale`. Besides: `error`, and values with units such as `200Mi`.

use std::ops::Range;

use qscaler_cel::unit;

/// Values of one signal, one per decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series(Vec<Spot>);

/// One value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Spot {
    Value(f64),
    Missing,
    Stale,
    Error,
}

/// Values of one series at most.
const LENGTH_MAX: usize = 100_000;

impl Series {
    /// The value at a step; after the end the last one.
    pub(super) fn at(&self, step: usize) -> Spot {
        self.0.get(step).or(self.0.last()).copied().unwrap_or(Spot::Missing)
    }

    /// How many values were written.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The last number at or before a step.
    pub(super) fn last_value(&self, step: usize) -> Option<f64> {
        let until = self.0.len().min(step + 1);
        self.0[..until]
            .iter()
            .rev()
            .find_map(|spot| if let Spot::Value(value) = spot { Some(*value) } else { None })
    }
}

/// Reads a series. The error is the part that cannot be read, and why.
pub(super) fn parse(text: &str) -> Result<Series, (Range<usize>, String)> {
    let mut spots = vec![];
    let mut at = 0;
    for word in text.split_whitespace() {
        let start = at + text[at..].find(word).unwrap_or(0);
        at = start + word.len();
        let refuse = || (start..at, format!("`{word}` is not part of a series"));
        spots.extend(expand(word).ok_or_else(refuse)?);
        if spots.len() > LENGTH_MAX {
            return Err((start..at, format!("this series has more than {LENGTH_MAX} values")));
        }
    }
    if spots.is_empty() {
        return Err((0..text.len(), "this series is empty".into()));
    }
    Ok(Series(spots))
}

fn expand(word: &str) -> Option<Vec<Spot>> {
    let (value, times) = match word.rsplit_once('x') {
        Some((value, times)) => (value, times.parse::<usize>().ok().filter(|times| *times <= LENGTH_MAX)?),
        None => (word, 0),
    };
    let fixed = match value {
        // PromQL's `_xN` is N missing values, unlike `1xN`.
        "_" => return Some(vec![Spot::Missing; times.max(1)]),
        "stale" => Some(Spot::Stale),
        "error" => Some(Spot::Error),
        _ => number(value).map(Spot::Value),
    };
    if let Some(spot) = fixed {
        return Some(vec![spot; times + 1]);
    }
    let step_at = value.rfind(['+', '-']).filter(|at| *at > 0)?;
    let (first, step) = (number(&value[..step_at])?, number(&value[step_at + 1..])?);
    let step = if value.as_bytes()[step_at] == b'-' { -step } else { step };
    Some((0..=times).map(|place| Spot::Value(first + step * place as f64)).collect())
}

fn number(text: &str) -> Option<f64> {
    let plain = text.parse::<f64>().ok().filter(|number| number.is_finite());
    plain.or_else(|| unit::duration(text)).or_else(|| unit::bytes(text))
}

#[cfg(test)]
mod tests {
    use super::{Spot, parse};

    fn values(text: &str) -> Vec<Spot> {
        parse(text).map(|series| series.0).unwrap_or_default()
    }

    fn numbers(values: &[f64]) -> Vec<Spot> {
        values.iter().copied().map(Spot::Value).collect()
    }

    #[test]
    fn the_notation_is_promqls() {
        assert_eq!(values("1 2 3"), numbers(&[1.0, 2.0, 3.0]));
        assert_eq!(values("0+10x3"), numbers(&[0.0, 10.0, 20.0, 30.0]));
        assert_eq!(values("10-5x2"), numbers(&[10.0, 5.0, 0.0]));
        assert_eq!(values("-2+1x2"), numbers(&[-2.0, -1.0, 0.0]));
        assert_eq!(values("400x2"), numbers(&[400.0, 400.0, 400.0]));
        assert_eq!(
            values("_ 1 _x2 stale error"),
            [Spot::Missing, Spot::Value(1.0), Spot::Missing, Spot::Missing, Spot::Stale, Spot::Error]
        );
        assert_eq!(values("1.5 200Mi 30s 1e3"), numbers(&[1.5, 209_715_200.0, 30.0, 1000.0]));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert_eq!(parse("1 2 three"), Err((4..9, "`three` is not part of a series".into())));
        assert!(parse("1x99999999").is_err());
        assert!(parse(" ").is_err());
    }
}
