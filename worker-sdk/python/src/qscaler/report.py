"""What a worker says of itself on the control path, and what it is told in return."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from qscaler.protocol import PROTOCOL


class State(Enum):
    """What a worker is doing."""

    #: It has not taken a task yet and may not.
    STARTING = "starting"
    #: It waits for tasks.
    IDLE = "idle"
    #: It works on at least one task.
    BUSY = "busy"
    #: It takes no more tasks and finishes what it holds.
    DRAINING = "draining"
    #: It holds nothing and its hook has run: it may be deleted.
    DRAINED = "drained"


class Opening(Enum):
    """Whether there is an offer that a worker may claim."""

    #: None.
    NONE = "none"
    #: One that anybody may claim: whoever is idle first.
    ANY = "any"
    #: One that names this worker: it should stop filling its slots.
    NAMED = "named"


@dataclass(frozen=True)
class Answer:
    """The answer to a report, in one atomic step with storing it."""

    #: The path's epoch, which a claim must name.
    epoch: str | None = None
    #: Whether there is an offer that it may claim.
    opening: Opening = Opening.NONE
    #: The claim that the path holds for this worker.
    claim: int | None = None
    #: The engine has already released this worker: it takes nothing any more.
    released: bool = False


#: A bucket ends a tenth above where it begins: a quantile is off by at most five per cent.
GROWTH = 1.1
#: The last bucket, for whatever takes longer.
BUCKET_MAX = 255


class Durations:
    """How long tasks took: counts per bucket, each a tenth wider than the one before, from a millisecond."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})

    def add(self, milliseconds: int) -> None:
        """Counts one task that took this many milliseconds."""
        bucket = self.bucket(milliseconds)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    @staticmethod
    def bucket(milliseconds: int) -> int:
        """The bucket of this many milliseconds: the first that does not end before them."""
        end, bucket = 1.0, 0
        while end < milliseconds and bucket < BUCKET_MAX:
            end *= GROWTH
            bucket += 1
        return bucket


@dataclass(frozen=True)
class Report:
    """One report. Counts are since the process started, so that a lost report loses nothing."""

    #: Who reports.
    worker: str
    #: Which start of its process.
    boot: str
    #: What it is doing.
    state: State
    #: For how long it has been doing so, in milliseconds of the worker's clock.
    state_ms: int
    #: How many tasks it can work on at a time.
    slots: int
    #: How many it works on now.
    busy_slots: int
    #: Tasks done.
    done: int
    #: Tasks that raised an error.
    failed: int
    #: Acks that came after the lease was lost: these tasks may have run twice.
    late_acks: int
    #: Milliseconds of work in tasks that have ended, summed over slots.
    busy_ms: int
    #: How long these tasks took.
    durations: Durations = field(default_factory=Durations)
    #: The offer that it has claimed. In each report, so that a path that lost its data learns it again.
    claim: int | None = None
    #: The path's epoch that it knows, unless a claim is on its way: what it claims from now on is of it.
    epoch: str | None = None
    #: Its process id, where that says something to the reader.
    pid: int | None = None
    #: The version of the protocol that it speaks.
    protocol: int = PROTOCOL

    def to_json(self) -> str:
        """The text that goes on the control path."""
        return json.dumps(
            {
                "protocol": self.protocol,
                "worker": self.worker,
                "boot": self.boot,
                "state": self.state.value,
                "stateMs": self.state_ms,
                "slots": self.slots,
                "busySlots": self.busy_slots,
                "done": self.done,
                "failed": self.failed,
                "lateAcks": self.late_acks,
                "busyMs": self.busy_ms,
                "durations": {str(bucket): count for bucket, count in sorted(self.durations.counts.items())},
                "claim": self.claim,
                "epoch": self.epoch,
                "pid": self.pid,
            },
            separators=(",", ":"),
        )
