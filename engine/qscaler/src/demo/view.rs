//! What is going on, live: a few lines that are drawn anew in a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use qscaler_core::record::Line;

use super::audit::Audit;
use crate::cli::say;

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(3);
/// Columns of the picture of the past.
const PAST: usize = 60;
/// Heights of a column of text, from nothing to full.
const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The view.
pub(super) struct View {
    terminal: bool,
    drawn: usize,
    shown_at: Option<Duration>,
    lasts: Duration,
    waiting: VecDeque<usize>,
    workers: VecDeque<usize>,
}

impl View {
    pub(super) fn new(lasts: Duration) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { terminal, drawn: 0, shown_at: None, lasts, waiting: VecDeque::new(), workers: VecDeque::new() }
    }

    /// Says something that stays.
    pub(super) fn note(&mut self, text: &str) {
        self.wipe();
        say(&format!("-- {text}\n"));
    }

    /// Shows how things stand.
    pub(super) fn show(&mut self, now: Duration, audit: &Audit, decision: Option<Line>) {
        let waiting = audit.tasks - audit.done - audit.running.min(audit.tasks - audit.done);
        push(&mut self.waiting, waiting);
        push(&mut self.workers, audit.workers_now);
        let reason = decision.map(|line| line.decision.reason).unwrap_or_default();
        if self.terminal {
            self.draw(now, audit, (waiting, &reason));
        } else if self.shown_at.is_none_or(|at| now.saturating_sub(at) >= PLAIN_EVERY) {
            self.shown_at = Some(now);
            say(&format!(
                "{:>4}s  waiting {waiting:>3}  running {:>3}  done {:>4}/{}  workers {:>2}  | {reason}\n",
                now.as_secs(),
                audit.running,
                audit.done,
                audit.tasks,
                audit.workers_now
            ));
        }
    }

    fn draw(&mut self, now: Duration, audit: &Audit, (waiting, reason): (usize, &str)) {
        self.wipe();
        let mut text = String::new();
        let lasts = self.lasts.as_secs();
        let _ =
            writeln!(text, "  QScaler demo   {:>3}s of about {lasts}s and until all is done", now.as_secs());
        let _ = writeln!(
            text,
            "  tasks    {:>4} arrived   {:>4} done   {:>3} running",
            audit.tasks, audit.done, audit.running
        );
        let _ = writeln!(text, "  waiting  {waiting:>4}  {}", bars(&self.waiting));
        let _ = writeln!(text, "  workers  {:>4}  {}", audit.workers_now, bars(&self.workers));
        let line: String = format!("  why      {reason}").chars().take(110).collect();
        let _ = writeln!(text, "{line}");
        self.drawn = text.lines().count();
        say(&text);
    }

    /// Removes what was drawn.
    fn wipe(&mut self) {
        if self.drawn > 0 {
            say(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }
}

fn push(past: &mut VecDeque<usize>, value: usize) {
    if past.len() == PAST {
        past.pop_front();
    }
    past.push_back(value);
}

fn bars(past: &VecDeque<usize>) -> String {
    let most = past.iter().copied().max().unwrap_or(0).max(1);
    past.iter().map(|value| HEIGHTS[(value * 8).div_ceil(most)]).collect()
}
