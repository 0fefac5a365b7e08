"""The loop of a worker that takes tasks: fetches, slots, leases."""

from __future__ import annotations

import inspect
import logging
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Callable

from qscaler.background import Background, start_thread
from qscaler.errors import GivenBack, QueueError
from qscaler.lifecycle import FetchEnded, FetchStarted, TaskEnded
from qscaler.loop import RETRY_FIRST, RETRY_MAX, Loop, until_answered
from qscaler.payload import reader
from qscaler.processes import ProcessSlot, require_importable
from qscaler.queue import Queue, Stop
from qscaler.settings import Settings
from qscaler.slots import AsyncSlot, EventLoop, Function, Slot, ThreadSlot, run_hook
from qscaler.task import Lease, Leased, Result

log = logging.getLogger("qscaler")

#: A task that failed waits this many seconds, doubled for each attempt, up to the second figure.
FAILED_FIRST, FAILED_MAX = 1.0, 60.0
#: Where the last task took less than this many seconds, a slot that has got one has so long for it before
#: another slot fetches, too: with short tasks one slot alone is faster than several that take turns.
SHORT = 0.002
#: A task that is given back has this many seconds to stop before it is another worker's.
STOP_MAX = 0.1


@dataclass(frozen=True)
class Program:
    """What the user wrote."""

    function: Function
    hook: Callable[[], Any] | None = None


class Outcome(Enum):
    """What became of a task."""

    DONE = 1
    FAILED = 2
    GIVEN_BACK = 3
    #: The lease was lost before the queue system knew.
    LATE = 4


class Held:
    """A task that the worker holds. Its end is decided once: by its result, or by giving it back."""

    def __init__(self, leased: Leased, slot: Slot) -> None:
        self.leased = leased
        self.slot = slot
        self.begin = time.monotonic()
        #: Its slot's thread has let go of it.
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._is_decided = False
        self._thread: int | None = None

    def enter(self) -> bool:
        """Called in the slot's thread before the work. False: it was given back already."""
        with self._lock:
            self._thread = threading.get_ident()
            return not self._is_decided

    def decide(self) -> bool:
        """Whether the caller decides; true once."""
        with self._lock:
            decides, self._is_decided = not self._is_decided, True
            return decides

    def abandon(self) -> None:
        """Ends the work, which was given back. Waits a moment for it to stop."""
        with self._lock:
            is_at_work = self._thread is not None and not self.stopped.is_set()
            if self._thread is not None and is_at_work:
                self.slot.interrupt(self._thread)
        if is_at_work:
            self.stopped.wait(STOP_MAX)

    def leave(self) -> None:
        """Called in the slot's thread after the work: from here on nothing interrupts it."""
        with self._lock:
            self.stopped.set()


class TaskLoop(Loop):
    """A worker that takes tasks and hands each to the user's function."""

    def __init__(self, settings: Settings, queue: Queue, program: Program) -> None:
        super().__init__(settings, queue)
        self._queue = queue
        self._program = program
        if settings.processes:
            require_importable(program.function)
        self._is_async = inspect.iscoroutinefunction(program.function) and not settings.processes
        self._event_loop = EventLoop() if self._is_async else None
        self._read = reader(settings.payload, settings.allow_pickle)
        self._slots: list[Slot] = []
        self._free: list[Slot] = []
        self._held: dict[str, Held] = {}
        self._keeper = Background("leases", self._break)
        self._stop = Stop()
        self._is_fetching = False
        self._fetch_pause = 0.0
        self._fetch_from = 0.0
        self._took = math.inf
        self._keep_at = 0.0

    def close(self) -> None:
        """Lets go of threads and processes. Those with abandoned work end with the process."""
        for slot in self._slots:
            slot.close()
        self._keeper.end()
        if self._event_loop is not None:
            self._event_loop.close()

    def _work(self) -> None:
        # One fetch at a time: with several slots the next begins when this one has brought a task. A slot
        # fetches for itself, so that from task to task no other thread has to wake up.
        if self._is_fetching or not self._life.may_fetch() or time.monotonic() < self._fetch_from:
            return
        self._step(FetchStarted())
        self._is_fetching = True
        if self._stop.is_set():
            self._stop = Stop()
        if not self._free:
            fresh = self._new_slot()
            fresh.thread = Background("slot", self._break)
            self._slots.append(fresh)
            self._free.append(fresh)
        slot = self._free.pop()
        slot.thread.do(partial(self._fetch, slot, self._stop, self._fetch_pause))

    def _fetch(self, slot: Slot, stop: Stop, pause: float) -> None:
        if pause > 0:
            stop.wait(pause)
        try:
            leased = self._queue.fetch(self._settings.fetch_wait_max(), stop)
        except QueueError as error:
            log.warning("cannot fetch; trying again: %s", error)
            self._handle(partial(self._fetched_nothing, slot, min(max(pause * 2, RETRY_FIRST), RETRY_MAX)))
            return
        if leased is None:
            self._handle(partial(self._fetched_nothing, slot, 0.0))
            return
        held = Held(leased, slot)
        self._handle(partial(self._fetched, held))
        following = self._perform(held)
        while following is not None:
            following = self._perform(following)

    def _fetched(self, held: Held) -> None:
        self._is_fetching, self._fetch_pause = False, 0.0
        self._held[held.leased.lease.token] = held
        self._step(FetchEnded(True))
        self._leave_time()

    def _leave_time(self) -> None:
        """Another slot fetches at once, or a little later where that is not likely to be of use."""
        now = time.monotonic()
        if self._took < SHORT and now >= self._fetch_from and self._life.may_fetch():
            self._fetch_from = now + SHORT
            self._wake()

    def _fetched_nothing(self, slot: Slot, pause: float) -> None:
        self._is_fetching, self._fetch_pause = False, pause
        self._free.append(slot)
        self._step(FetchEnded(False))

    def _new_slot(self) -> Slot:
        if self._settings.processes:
            return ProcessSlot(self._program.function, self._settings.payload, self._settings.allow_pickle)
        if self._event_loop is not None:
            return AsyncSlot(self._program.function, self._read, self._event_loop)
        return ThreadSlot(self._program.function, self._read)

    def _perform(self, held: Held) -> Held | None:
        """Works on a task until its queue system knows. Returns the next one, where it came along."""
        try:
            if not held.enter():
                raise GivenBack
            result = held.slot.perform(held.leased.task)
            if not held.decide():
                raise GivenBack
        finally:
            held.leave()
        took = time.monotonic() - held.begin
        if result.error is None and self._may_take():
            with suppress(QueueError):
                return self._ack_and_take(held, took)
        try:
            kept = self._settle(held.leased, result)
        except QueueError:
            return None
        outcome = Outcome.LATE if not kept else Outcome.DONE if result.error is None else Outcome.FAILED
        self._handle(partial(self._worked, held, took, outcome))
        return None

    def _may_take(self) -> bool:
        """Whether the next task may be taken with the ack of this one. Then a fetch is under way."""
        with self._lock:
            if self._is_fetching or self._fetch_pause > 0 or not self._life.may_fetch_with_ack():
                return False
            self._is_fetching = True
            self._step(FetchStarted())
            return True

    def _ack_and_take(self, held: Held, took: float) -> Held | None:
        try:
            kept, leased = self._queue.ack_and_take(held.leased.lease)
        except QueueError as error:
            log.warning("cannot acknowledge; trying again: %s", error)
            self._handle(self._took_nothing)
            raise
        following = None if leased is None else Held(leased, held.slot)
        self._handle(partial(self._acked, held, took, Outcome.DONE if kept else Outcome.LATE, following))
        return following

    def _acked(self, held: Held, took: float, outcome: Outcome, following: Held | None) -> None:
        self._is_fetching = False
        self._finished(held, took, outcome)
        if following is None:
            self._free.append(held.slot)
        else:
            self._held[following.leased.lease.token] = following
        self._step(FetchEnded(following is not None))
        if following is not None:
            self._leave_time()

    def _took_nothing(self) -> None:
        self._is_fetching, self._fetch_pause = False, RETRY_FIRST
        self._step(FetchEnded(False))

    def _settle(self, leased: Leased, result: Result) -> bool:
        """Tells the queue system how a task ended, until it answers. False: the lease was lost before."""
        lease, attempt = leased.lease, leased.task.attempt
        if result.error is None:
            return until_answered(partial(self._queue.ack, lease), self._over)
        if result.final or attempt >= self._settings.attempts_max:
            log.error("task %s is put aside as dead after attempt %d: %s", lease.task, attempt, result.error)
            return until_answered(partial(self._queue.bury, lease, result.error), self._over)
        delay = min(FAILED_FIRST * 2 ** (attempt - 1), FAILED_MAX)
        return until_answered(partial(self._queue.give_back, lease, delay, True), self._over)

    def _worked(self, held: Held, took: float, outcome: Outcome) -> None:
        self._free.append(held.slot)
        self._finished(held, took, outcome)

    def _finished(self, held: Held, took: float, outcome: Outcome) -> None:
        del self._held[held.leased.lease.token]
        self._took = took
        self._tally.add_task(took)
        self._tally.done += outcome is Outcome.DONE
        self._tally.failed += outcome is Outcome.FAILED
        self._tally.late_acks += outcome is Outcome.LATE
        self._step(TaskEnded())

    def _stop_fetching(self) -> None:
        self._stop.set()

    def _give_back(self) -> None:
        for held in self._held.values():
            if held.decide():
                start_thread("give-back", partial(self._give_one_back, held), self._break)

    def _give_one_back(self, held: Held) -> None:
        took = time.monotonic() - held.begin
        held.abandon()
        try:
            kept = until_answered(partial(self._queue.give_back, held.leased.lease, 0.0, False), self._over)
        except QueueError:
            return
        if not kept:
            log.warning("the lease of task %s was lost before it was given back", held.leased.lease.task)
        self._events.put(partial(self._finished, held, took, Outcome.GIVEN_BACK if kept else Outcome.LATE))

    def _hook(self) -> None:
        if self._program.hook is not None:
            run_hook(self._program.hook, self._event_loop)

    def _moments(self) -> list[float]:
        moments = [self._keep_at] if self._is_open else []
        may_fetch = not self._is_fetching and self._life.may_fetch()
        return [*moments, self._fetch_from] if may_fetch else moments

    def _tick(self, now: float) -> None:
        super()._tick(now)
        if now >= self._keep_at and self._is_open:
            self._keep_at = now + self._settings.lease / 3
            self._keeper.do(partial(self._keep_leases, [it.leased.lease for it in self._held.values()]))

    def _keep_leases(self, leases: list[Lease]) -> None:
        for lease in leases:
            try:
                if not self._queue.renew(lease):
                    log.warning("the lease of task %s was lost; it may run twice", lease.task)
            except QueueError as error:
                log.warning("cannot renew a lease; trying again: %s", error)
        try:
            self._queue.reap()
        except QueueError as error:
            log.debug("cannot look for lost leases: %s", error)
