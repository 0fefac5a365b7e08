"""For tests of workers: a queue in memory, no server needed.

    from qscaler.testing import MemoryQueue

    def test_mails_are_sent():
        queue = MemoryQueue()
        queue.push({"to": "ada"})
        queue.drain_now(worker)
        assert queue.done == [{"to": "ada"}]

The worker is the real one: it takes each task, tries failed ones again (without the wait), puts poison
aside, then claims an offer, runs its shutdown hook and leaves.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from qscaler.protocol import Identity
from qscaler.queue import Queue, Stop
from qscaler.report import Answer, Opening, Report, State
from qscaler.task import Ended, Lease, Leased, Task
from qscaler.worker import Worker


class Dead(NamedTuple):
    """A task that failed for good."""

    payload: Any
    error: str
    attempts: int


@dataclass
class _Waiting:
    task: Task
    #: What the test pushed, to be found again.
    pushed: Any


@dataclass
class MemoryQueue(Queue):
    """A queue in memory, with one offer to leave that opens when every task has ended."""

    #: Payloads of tasks that are done, in the order of their ends.
    done: list[Any] = field(default_factory=list)
    #: Tasks that failed for good.
    dead: list[Dead] = field(default_factory=list)
    #: What workers reported.
    reports: list[Report] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._held: dict[str, _Waiting] = {}
        self._count = 0
        self._claimed: str | None = None

    def push(self, payload: Any) -> None:
        """Puts a task into the queue: bytes as they are, anything else as JSON."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        with self._changed:
            self._count += 1
            self._waiting.append(_Waiting(Task(str(self._count), "memory", data, 1), payload))
            self._changed.notify_all()

    def waiting(self) -> list[Task]:
        """Tasks that nobody has taken, or that were given back."""
        with self._changed:
            return [waiting.task for waiting in self._waiting]

    def drain_now(self, worker: Worker) -> Ended:
        """Lets the worker do everything that is in the queue, and leave. May be called again."""
        self._claimed = None
        # An engine would do so by the control path; the rest is as the worker has it.
        settings = replace(
            worker.settings(), url="", queues=("memory",), identity=Identity("tests", "worker"), park=False
        )
        return worker.run_on(self, settings)

    def open(self) -> None:
        """See `Queue`."""

    def fetch(self, wait: float, stop: Stop) -> Leased | None:
        """See `Queue`."""

        def wake() -> None:
            with self._changed:
                self._changed.notify_all()

        with stop.calling(wake), self._changed:
            self._changed.wait_for(lambda: self._waiting or stop.is_set(), wait)
            if not self._waiting or stop.is_set():
                return None
            waiting = self._waiting.popleft()
            self._count += 1
            token = str(self._count)
            self._held[token] = waiting
            return Leased(waiting.task, Lease("memory", waiting.task.id, token))

    def renew(self, lease: Lease) -> bool:
        """See `Queue`."""
        return lease.token in self._held

    def ack(self, lease: Lease) -> bool:
        """See `Queue`."""
        held = self._let_go(lease)
        if held is not None:
            self.done.append(held.pushed)
        return held is not None

    def give_back(self, lease: Lease, delay: float, counts: bool) -> bool:  # noqa: ARG002 (tests do not wait)
        """See `Queue`."""
        held = self._let_go(lease)
        if held is not None:
            held.task = replace(held.task, attempt=held.task.attempt + counts)
            with self._changed:
                self._waiting.append(held)
                self._changed.notify_all()
        return held is not None

    def bury(self, lease: Lease, error: str) -> bool:
        """See `Queue`."""
        held = self._let_go(lease)
        if held is not None:
            self.dead.append(Dead(held.pushed, error, held.task.attempt))
        return held is not None

    def _let_go(self, lease: Lease) -> _Waiting | None:
        with self._changed:
            return self._held.pop(lease.token, None)

    def reap(self) -> int:
        """See `Queue`."""
        return 0

    def report(self, report: Report) -> Answer:
        """See `Queue`."""
        self.reports.append(report)
        with self._changed:
            is_empty = not self._waiting and not self._held and report.state is not State.STARTING
        return Answer("memory", Opening.ANY if is_empty else Opening.NONE)

    def claim(self, epoch: str) -> int | None:
        """See `Queue`."""
        with self._changed:
            if self._claimed is None and not self._waiting:
                self._claimed = epoch
                return 1
            return None

    def leave(self) -> None:
        """See `Queue`."""

    def close(self) -> None:
        """See `Queue`."""
