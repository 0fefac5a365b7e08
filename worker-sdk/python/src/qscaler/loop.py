"""The loop around the lifecycle machine.

One lock guards the worker's state, and whoever holds it handles one event at a time, a function to call.
Whatever takes time runs in threads beside it and comes back as an event: what is frequent in the thread
where it happened, all else in the loop's own thread, which waits for the next moment at which something
is due.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Callable, TypeVar

from qscaler.background import Background, start_thread
from qscaler.errors import QueueError
from qscaler.lifecycle import Action, Answered, Claimed, HookEnded, Input, Machine, Reported, Told
from qscaler.queue import ControlPath
from qscaler.readiness import Readiness
from qscaler.report import Answer, State
from qscaler.settings import Settings
from qscaler.signals import Deadline, Signals
from qscaler.tally import Tally
from qscaler.task import Ended

log = logging.getLogger("qscaler")

#: Two reports are at least this many seconds apart, unless the worker is leaving.
REPORT_GAP = 0.1
#: A worker that is done tries for this many seconds to say so before it leaves without.
LAST_REPORT_MAX = 10.0
#: A worker that is leaving waits this many seconds after a report that nobody answered.
REPORT_AGAIN = 0.5
#: Seconds between attempts to reach a queue system that does not answer: the first pause, and the longest.
RETRY_FIRST, RETRY_MAX = 0.1, 2.0

T = TypeVar("T")


def until_answered(ask: Callable[[], T], over: threading.Event) -> T:
    """Asks until the queue system answers. Raises `QueueError` when the worker's life is over before."""
    pause = RETRY_FIRST
    while True:
        try:
            return ask()
        except QueueError as error:
            log.warning("no answer; trying again: %s", error)
            if over.wait(pause):
                raise
        pause = min(pause * 2, RETRY_MAX)


def _nothing() -> None:
    """An event that only wakes."""


class Loop(ABC):
    """What every worker does: report, claim, listen to signals, leave."""

    def __init__(self, settings: Settings, path: ControlPath) -> None:
        self._settings = settings
        self._path = path
        self._life = Machine(settings.slots)
        self._tally = Tally()
        self._lock = threading.Lock()
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._readiness = Readiness(settings.ready_file, settings.ready_port)
        self._deadline = Deadline(settings.grace)
        self._reporter = Background("report", self._break)
        self._over = threading.Event()
        self._is_open = False
        self._broken: BaseException | None = None
        self._report_due = True
        self._reporting = False
        self._report_from = 0.0
        self._report_tick = 0.0
        self._ending_since: float | None = None
        self._is_parked = False
        self._thread = 0

    def tell(self) -> None:
        """Tells the worker to end, as SIGTERM does; a second time, to give back what it holds."""
        self._events.put(self._told)

    def run(self) -> Ended:
        """Returns when the worker's life has ended.

        Raises what nobody foresaw: then others take what it held, when its leases end.
        """
        self._thread = threading.get_ident()
        self._readiness.open()
        try:
            with Signals(self.tell):
                log.info("started")
                start_thread("open", self._open, self._break)
                while not self._over.is_set():
                    self._turn()
        finally:
            self._over.set()
            self._reporter.end()
            self._readiness.close()
            if self._is_open:
                self._say_goodbye()
            self._path.close()
        if self._broken is not None:
            raise self._broken
        return self._tally.ended(self._life.claim)

    def _break(self, error: BaseException) -> None:
        self._broken = error
        self._events.put(self._over.set)

    def _open(self) -> None:
        """Connects, however long that takes: a queue that is away makes nobody leave."""
        try:
            until_answered(self._path.open, self._over)
        except QueueError:
            log.info("ended before the queue system answered")
        else:
            self._events.put(self._opened)

    def _opened(self) -> None:
        self._is_open = True
        log.info("connected")
        if self._settings.identity is None:
            self._step(Answered(Answer()))
        else:
            start_thread("listen", partial(self._path.listen, self._told_to_look, self._over), self._break)

    def _say_goodbye(self) -> None:
        try:
            self._path.leave()
        except QueueError as error:
            log.debug("cannot say goodbye: %s", error)

    def _turn(self) -> None:
        """Does what is due, then handles the next event, or none when something else is due before."""
        with self._lock:
            self._work()
            self._report_if_due()
            moments = [self._report_tick, *self._moments()]
            deadline = self._deadline.moment()
            if deadline is not None:
                moments.append(deadline)
            if self._can_report():
                moments.append(self._report_from)
        event = _nothing
        with suppress(Empty):
            event = self._events.get(timeout=max(min(moments) - time.monotonic(), 0.0))
        with self._lock:
            event()
            self._tick(time.monotonic())

    def _handle(self, event: Callable[[], None]) -> None:
        """Handles an event in the thread where it happened."""
        with self._lock:
            event()
            if not self._over.is_set():
                self._work()

    def _tick(self, now: float) -> None:
        deadline = self._deadline.moment()
        if deadline is not None and now >= deadline:
            self._deadline.end()
            self._step(Told())
        if now >= self._report_tick:
            self._report_tick = now + self._path.look_every
            self._report_due = True

    def _told_to_look(self) -> None:
        self._events.put(self._look)

    def _look(self) -> None:
        """Reports, which is the way to look at the control path."""
        self._report_due = True

    def _told(self) -> None:
        self._deadline.begin()
        log.info("told to end")
        if self._is_parked:
            self._over.set()
        self._step(Told())

    def _step(self, happened: Input) -> None:
        for action in self._life.step(happened):
            self._act(action)
        self._readiness.set(self._life.state() in (State.IDLE, State.BUSY))
        if self._life.state() is State.DRAINED:
            if self._ending_since is None:
                self._ending_since = time.monotonic()
            nobody_listens = self._settings.identity is None or not self._is_open
            if nobody_listens and not self._over.is_set() and not self._is_parked:
                self._step(Reported())

    def _act(self, action: Action) -> None:
        if action is Action.STOP_FETCHING:
            self._stop_fetching()
        elif action is Action.CLAIM:
            self._claim()
        elif action is Action.REPORT:
            was_due, self._report_due = self._report_due, True
            if self._life.is_leaving():
                self._report_from = 0.0
            if self._life.is_leaving() or not was_due:
                self._wake()
        elif action is Action.GIVE_BACK:
            self._give_back()
        elif action is Action.RUN_HOOK:
            start_thread("hook", self._hook_and_say, self._break)
        elif self._settings.park and not self._life.was_told():
            self._is_parked = True
            log.info("drained; waiting to be ended")
        else:
            self._over.set()
            self._wake()

    def _wake(self) -> None:
        """Lets the loop's own thread look what is due now."""
        if threading.get_ident() != self._thread and self._events.empty():
            self._events.put(_nothing)

    def _hook_and_say(self) -> None:
        try:
            self._hook()
        except Exception:
            log.exception("the shutdown hook failed")
        self._events.put(partial(self._step, HookEnded()))

    def _claim(self) -> None:
        epoch = self._life.epoch

        def claim() -> None:
            # Until it is answered: the claim may have been taken although the answer was lost, and then
            # no task may be fetched.
            offer = None
            if epoch is not None:
                try:
                    offer = until_answered(lambda: self._path.claim(epoch), self._over)
                except QueueError:
                    return
            self._events.put(partial(self._step, Claimed(offer)))

        start_thread("claim", claim, self._break)

    def _can_report(self) -> bool:
        is_known = self._settings.identity is not None and self._is_open
        return is_known and self._report_due and not self._reporting

    def _report_if_due(self) -> None:
        identity, now = self._settings.identity, time.monotonic()
        if identity is None or not self._can_report() or now < self._report_from:
            return
        report = self._tally.report(identity.worker, self._life)
        self._report_due, self._reporting = False, True
        self._report_from = now + REPORT_GAP

        def say() -> None:
            try:
                answer = self._path.report(report)
            except QueueError as error:
                self._events.put(partial(self._not_answered, error))
            else:
                self._events.put(partial(self._answered, report.state, answer))

        self._reporter.do(say)

    def _answered(self, said: State, answer: Answer) -> None:
        self._reporting = False
        self._step(Answered(answer))
        if said is State.DRAINED:
            self._step(Reported())

    def _not_answered(self, error: QueueError) -> None:
        self._reporting = False
        log.warning("cannot report; working on: %s", error)
        now = time.monotonic()
        if self._ending_since is not None and now - self._ending_since > LAST_REPORT_MAX:
            self._step(Reported())
        elif self._life.is_leaving():
            self._report_due, self._report_from = True, now + REPORT_AGAIN

    @abstractmethod
    def _work(self) -> None:
        """Starts whatever the machine allows; called before each event."""

    @abstractmethod
    def _moments(self) -> list[float]:
        """When it wants to be called at the latest."""

    @abstractmethod
    def _stop_fetching(self) -> None:
        """Ends the fetches under way."""

    @abstractmethod
    def _give_back(self) -> None:
        """Gives back every task that is held."""

    @abstractmethod
    def _hook(self) -> None:
        """Runs the user's shutdown hook; called in a thread of its own."""
