//! Counts that a queue system does not keep, inferred from those that it does.
//!
//! A plain list says how long it is and nothing of when its tasks arrived. Between two looks arrivals
//! are what the list grew by and what left it; the first waiting task arrived when the count of
//! arrivals passed the count of tasks taken since.

use std::collections::VecDeque;

use crate::signal::Measure;
use crate::time::Time;

/// Looks that are remembered for the age of the first waiting task. Beyond that it is a lower bound.
const LOOKS_MAX: usize = 1024;

/// What is remembered of one queue.
#[derive(Clone, Debug, Default)]
pub struct Inference {
    /// Tasks that are there or have left, at the last look.
    total: Option<u64>,
    arrived: u64,
    /// Somebody takes tasks who does not count them, so arrivals can only be inferred.
    uncounted: bool,
    /// When the count of arrivals had reached how much, rising.
    looks: VecDeque<(Time, u64)>,
}

/// What a look at a plain queue says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Tasks that wait.
    pub length: u64,
    /// Tasks that counted workers hold.
    pub inflight: u64,
    /// Tasks that wait for a moment.
    pub delayed: u64,
    /// Tasks that counted workers have finished with, so far.
    pub departed: u64,
}

impl Inference {
    /// Makes a whole measure of a look.
    pub fn observe(&mut self, now: Time, look: Look) -> Measure {
        let total = look.length + look.inflight + look.delayed + look.departed;
        match self.total {
            // What was there at the first look has arrived before it.
            None => self.arrived = total,
            Some(before) if total >= before => self.arrived += total - before,
            Some(_) => self.uncounted = true,
        }
        self.total = Some(total);
        if self.looks.back().is_none_or(|(_, arrived)| *arrived < self.arrived) {
            self.looks.push_back((now, self.arrived));
        }
        let taken = self.arrived.saturating_sub(look.length);
        while self.looks.len() > 1 && self.looks.front().is_some_and(|(_, arrived)| *arrived <= taken) {
            self.looks.pop_front();
        }
        if self.looks.len() > LOOKS_MAX {
            // The oldest stays: it is what the age is counted from.
            self.looks.remove(1);
        }
        let oldest = self.looks.front().filter(|_| look.length > 0);
        Measure {
            length: look.length,
            inflight: look.inflight,
            delayed: look.delayed,
            arrived: self.arrived,
            departed: look.departed,
            oldest: oldest.map(|(since, _)| now.since(*since).as_secs_f64()),
            arrived_estimated: self.uncounted,
            oldest_estimated: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Inference, Look};
    use crate::time::Time;

    fn look(length: u64, inflight: u64, departed: u64) -> Look {
        Look { length, inflight, delayed: 0, departed }
    }

    #[test]
    fn arrivals_are_what_the_list_grew_by_and_what_left_it() {
        let mut queue = Inference::default();
        assert_eq!(queue.observe(Time(0), look(5, 0, 0)).arrived, 5);
        assert_eq!(queue.observe(Time(500), look(4, 2, 1)).arrived, 7);
        let after = queue.observe(Time(1000), look(0, 0, 7));
        assert_eq!((after.arrived, after.departed, after.arrived_estimated), (7, 7, false));
    }

    #[test]
    fn the_first_waiting_task_is_as_old_as_its_arrival() {
        let mut queue = Inference::default();
        queue.observe(Time(0), look(0, 0, 0));
        queue.observe(Time(1000), look(3, 0, 0));
        queue.observe(Time(2000), look(5, 0, 0));
        assert_eq!(queue.observe(Time(4000), look(5, 0, 0)).oldest, Some(3.0));
        assert_eq!(
            queue.observe(Time(5000), look(2, 3, 0)).oldest,
            Some(3.0),
            "those of the second look are first now"
        );
        assert_eq!(queue.observe(Time(6000), look(0, 2, 3)).oldest, None);
    }

    #[test]
    fn who_takes_tasks_uncounted_makes_arrivals_inferred() {
        let mut queue = Inference::default();
        queue.observe(Time(0), look(10, 0, 0));
        let after = queue.observe(Time(500), look(4, 0, 0));
        assert_eq!((after.arrived, after.arrived_estimated), (10, true));
    }

    #[test]
    fn a_long_backlog_takes_bounded_memory() {
        let mut queue = Inference::default();
        for step in 0..5_000 {
            queue.observe(Time(step * 500), look(1 + step.unsigned_abs(), 0, 0));
        }
        assert!(queue.looks.len() <= super::LOOKS_MAX);
        assert_eq!(queue.observe(Time(2_500_000), look(5_000, 0, 0)).oldest, Some(2500.0));
    }
}
