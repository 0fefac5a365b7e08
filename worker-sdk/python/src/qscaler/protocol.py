"""The written contract between engine and workers: names of keys, and the texts for each queue system.

The texts are the protocol's own files, the same that the engine and the Rust SDK run. A wheel carries a
copy; in a checkout they are read from the protocol's folder.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: The version that reports carry. Whoever meets a higher one keeps what it has, holds, and says so.
PROTOCOL = 1


@cache
def text(system: str, *files: str) -> str:
    """These files of one queue system, one after the other."""
    return "".join((_folder() / system / file).read_text(encoding="utf-8") for file in files)


@cache
def _folder() -> Path:
    here = Path(__file__).resolve()
    packaged = here.parent / "texts"
    return packaged if packaged.is_dir() else here.parents[3] / "protocol"


def random_name() -> str:
    """16 hexadecimal digits that nobody else has: for boots, leases, and workers that nobody named."""
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Identity:
    """Who a worker is to the engine."""

    #: The workload's uid, part of every key on the control path.
    workload: str
    #: This incarnation of the worker. Never a name, which is used again.
    worker: str


class QueueKeys:
    """Keys of a queue in Redis, with its name in braces: a cluster keeps them where the queue is."""

    def __init__(self, queue: str) -> None:
        def key(name: str) -> str:
            return f"qscaler:{{{queue}}}:{name}"

        #: The list that producers push to.
        self.queue = queue
        #: Sorted set: until when each holder keeps what it holds, in the server's milliseconds.
        self.leases = key("leases")
        #: What the lists of tasks that holders hold begin with; the holder follows.
        self.processing = key("processing:")
        #: What the hashes of holders' turns begin with; the holder and its process follow. The last turn of
        #: each slot.
        self.turns = key("turns:")
        #: Sorted set: tasks that wait for a moment.
        self.delayed = key("delayed")
        #: Hash: failed attempts by digest of the payload.
        self.attempts = key("attempts")
        #: Hash: `departed`, the tasks that left for good; `interrupted`, the number of the last interruption.
        self.counters = key("counters")
        #: List: tasks that failed for good.
        self.dead = key("dead")
        #: List: why, in the same order, as JSON.
        self.errors = key("errors")
        #: List: times when a holder's work was cut off, `NUMBER:WHY:TASKS:HOLDER`, the newest first.
        self.interrupted = key("interrupted")


class PathKeys:
    """Keys of a workload's control path in Redis."""

    def __init__(self, workload: str) -> None:
        def key(name: str) -> str:
            return f"qscaler:{{{workload}}}:{name}"

        #: Hash: `epoch`, `server`, `floor`, and `o:ID` with each offer's state.
        self.offers = key("offers")
        #: Hash: by worker, `MILLISECONDS:EPOCH:REPORT`.
        self.reports = key("reports")
        #: Set: workers that were released.
        self.released = key("released")
