//! The scripts that a worker runs, each hashed once.

use qscaler_protocol::redis as texts;
use redis::Script;

/// What `take.lua` gives: the place of the queue, payload, how often it has failed, its digest.
pub(super) type Taken = (usize, Vec<u8>, u32, String);

pub(super) struct Scripts {
    pub(super) give_back: Script,
    pub(super) bury: Script,
    pub(super) hold: Script,
    pub(super) leave: Script,
    pub(super) reap: Script,
    pub(super) attempts: Script,
    pub(super) take: Script,
    pub(super) turn: Script,
    pub(super) fence: Script,
    pub(super) report: Script,
    pub(super) claim: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            give_back: Script::new(texts::RETURN),
            bury: Script::new(texts::BURY),
            hold: Script::new(texts::HOLD),
            leave: Script::new(texts::LEAVE),
            reap: Script::new(texts::REAP),
            attempts: Script::new(texts::ATTEMPTS),
            take: Script::new(texts::TAKE),
            turn: Script::new(texts::TURN),
            fence: Script::new(texts::FENCE),
            report: Script::new(texts::REPORT),
            claim: Script::new(texts::CLAIM),
        }
    }
}
