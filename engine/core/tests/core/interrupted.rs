//! Why tasks were cut off, by what was seen last of their worker.

use qscaler_core::interrupted::{Cause, End, Going, How, Last, Why, cause};
use qscaler_core::time::Time;

/// When the cause is asked for, in milliseconds.
const NOW: i64 = 10_000_000;

fn ended(how: How) -> Last {
    Last { end: Some(End { how, at: Time(NOW - 1_000) }), ..Last::default() }
}

const RUNNING: Last = Last { is_running: true, end: None, going: None, is_overdue: false, gone: None };

fn going(going: Going) -> Last {
    Last { going: Some(going), ..RUNNING }
}

#[test]
fn the_cause_is_what_says_most_of_the_worker() {
    let restarted = |how, ago| Last { end: Some(End { how, at: Time(NOW - ago) }), ..RUNNING };
    let gone = |last| Last { gone: Some(Time(NOW)), ..last };
    let overdue = |last| Last { is_overdue: true, ..last };
    let ends = |last, how| Last { end: Some(End { how, at: Time(NOW) }), ..last };
    let killed = How::Code(137);
    for (last, expected) in [
        (ended(How::OutOfMemory), Cause::Oom),
        (ended(killed), Cause::Killed),
        (ended(How::Code(143)), Cause::Killed),
        (ended(How::Code(1)), Cause::Crashed),
        (ended(How::Code(0)), Cause::Crashed),
        (ended(How::Code(139)), Cause::Crashed),
        (ended(How::Unseen), Cause::Unknown),
        // It started again, and says itself that what it held is lost.
        (restarted(killed, 5_000), Cause::Killed),
        (restarted(How::OutOfMemory, 5_000), Cause::Oom),
        // It ended once, long before; now it hangs.
        (restarted(killed, 3_600_000), Cause::Stalled),
        (RUNNING, Cause::Stalled),
        (going(Going::Evicted), Cause::Evicted),
        (going(Going::Preempted), Cause::Preempted),
        (going(Going::Node), Cause::Node),
        (going(Going::Deleted), Cause::Deleted),
        (overdue(going(Going::Deleted)), Cause::Deadline),
        (overdue(RUNNING), Cause::Deadline),
        (overdue(going(Going::Evicted)), Cause::Evicted),
        // Whoever has to go is killed in the end.
        (ends(going(Going::Evicted), killed), Cause::Evicted),
        (ends(going(Going::Deleted), killed), Cause::Deleted),
        (ends(overdue(going(Going::Deleted)), killed), Cause::Deadline),
        (ends(going(Going::Deleted), How::OutOfMemory), Cause::Oom),
        (gone(RUNNING), Cause::Deleted),
        (gone(overdue(RUNNING)), Cause::Deadline),
        (gone(ended(killed)), Cause::Killed),
        (gone(Last::default()), Cause::Unknown),
    ] {
        assert_eq!(cause(Why::Lost, Some(&last), Time(NOW)), expected, "{last:?}");
        assert_eq!(cause(Why::Grace, Some(&last), Time(NOW)), Cause::Grace, "who gives back has the time to");
    }
    assert_eq!(cause(Why::Lost, None, Time(NOW)), Cause::Unknown);
    assert_eq!(cause(Why::Grace, None, Time(NOW)), Cause::Grace);
}

#[test]
fn every_cause_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.about().0).collect();
    assert_eq!(names.len(), Cause::ALL.len());
}
