"""Lifecycle only: for programs that take tasks by a queue library of their own.

    from qscaler import Lifecycle

    with Lifecycle() as life:
        while not life.should_leave():
            message = consumer.poll(timeout=1)
            if message:
                with life.busy():
                    handle(message)

Between a `should_leave` that says no and the next call, or the `busy` that follows, the program may fetch;
a claim waits until then, so no fetch completes after a claim.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Callable

from qscaler.errors import Leaving
from qscaler.lifecycle import FetchEnded, FetchStarted, TaskEnded
from qscaler.loop import Loop
from qscaler.queue import ControlPath, connect
from qscaler.report import Answer, Report
from qscaler.settings import Settings, read_settings
from qscaler.signals import Signals

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from qscaler.settings import Options

#: Who waits for the gate looks this often, in seconds, whether the loop still runs.
LOOK_EVERY = 0.5


class Nobody(ControlPath):
    """The control path of a worker that no engine counts: it leaves by signals alone."""

    def open(self) -> None:
        """Nothing to connect to."""

    def report(self, report: Report) -> Answer:  # noqa: ARG002
        """Nobody listens."""
        return Answer()

    def claim(self, epoch: str) -> int | None:  # noqa: ARG002
        """Nobody offers."""
        return None

    def leave(self) -> None:
        """Nobody knows it."""

    def close(self) -> None:
        """Nothing to close."""


class GuardLoop(Loop):
    """The loop of a program that fetches by itself, each time that it was told that it may."""

    def __init__(self, settings: Settings, path: ControlPath) -> None:
        super().__init__(settings, path)
        self._seekers: list[Callable[[bool], None]] = []
        self._permits = 0
        self._program_ended = threading.Event()
        #: The second signal, or the end of the grace period.
        self.must_stop = threading.Event()

    def seek(self) -> bool:
        """Waits until the caller may fetch; false when the worker leaves instead."""
        answers: SimpleQueue[bool] = SimpleQueue()
        self._events.put(partial(self._seekers.append, answers.put))
        while True:
            try:
                return answers.get(timeout=LOOK_EVERY)
            except Empty:
                if self._over.is_set():
                    return False

    def fetched(self, task: bool) -> None:
        """A fetch has ended, with a task or without."""
        self._events.put(partial(self._fetched, task))

    def _fetched(self, task: bool) -> None:
        self._permits -= 1
        self._step(FetchEnded(task))

    def finished(self, seconds: float, failed: bool) -> None:
        """A task has ended."""
        self._events.put(partial(self._finished, seconds, failed))

    def _finished(self, seconds: float, failed: bool) -> None:
        self._tally.add_task(seconds)
        self._tally.failed += failed
        self._tally.done += not failed
        self._step(TaskEnded())

    def end(self) -> None:
        """The program fetches no more and has cleaned up."""
        self._program_ended.set()
        self._events.put(self._ended)

    def _ended(self) -> None:
        if not self._life.is_leaving():
            self._told()
        while self._permits > 0:
            self._fetched(False)

    def _work(self) -> None:
        while self._seekers and (self._life.is_leaving() or self._life.may_fetch()):
            may_fetch = not self._life.is_leaving()
            if may_fetch:
                self._permits += 1
                self._step(FetchStarted())
            self._seekers.pop(0)(may_fetch)

    def _moments(self) -> list[float]:
        return []

    def _stop_fetching(self) -> None:
        """The program comes back by itself."""

    def _give_back(self) -> None:
        self.must_stop.set()

    def _hook(self) -> None:
        self._program_ended.wait()


class _Permit:
    """The right to one fetch. It goes with the thread or coroutine that was told, and is used once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_used = False

    def use(self) -> bool:
        """Whether it was still there."""
        with self._lock:
            was_there, self._is_used = not self._is_used, True
            return was_there


class Lifecycle:
    """Tells a program when to leave, and the engine how it does. See the module.

    `url` is the control path, `QSCALER_QUEUE_URL` where it is not given. May be used from several threads
    and coroutines, as many at a time as there are `slots`.
    """

    def __init__(self, url: str | None = None, **options: Unpack[Options]) -> None:
        self._settings = read_settings({"url": url, **options})
        # Without an identity there is nobody to report to.
        path = connect(self._settings) if self._settings.identity else Nobody()
        self._loop = GuardLoop(self._settings, path)
        self._signals = Signals(self._loop.tell)
        self._thread = threading.Thread(target=self._run, name="qscaler-lifecycle", daemon=True)
        self._broken: BaseException | None = None
        self._permit: ContextVar[_Permit] = ContextVar("qscaler_permit")

    def __enter__(self) -> Lifecycle:
        self._signals.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Says that the worker is drained. Parks here where that is asked for."""
        self._loop.end()
        while self._thread.is_alive():
            self._thread.join(LOOK_EVERY)
        self._signals.__exit__(kind, error, trace)

    def _run(self) -> None:
        try:
            self._loop.run()
        except BaseException as error:
            self._broken = error

    def should_leave(self) -> bool:
        """Whether to fetch no more, finish what is held, and leave the `with` block.

        Waits while that is undecided: at the start, while an offer is claimed, and while all slots are
        busy. Raises `SettingsError` when the settings cannot work.
        """
        self._end_fetch(task=False)
        may_fetch = self._loop.seek()
        if self._broken is not None:
            raise self._broken
        if may_fetch:
            self._permit.set(_Permit())
        return not may_fetch

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Holds one slot while the program works on a task.

        A task that came without asking `should_leave` before waits here for the gate. Raises `Leaving` when
        the worker leaves: then give the task back to its queue.
        """
        if not self._end_fetch(task=True):
            if not self._loop.seek():
                raise Leaving("this worker takes no more tasks")
            self._loop.fetched(True)
        begin, failed = time.monotonic(), True
        try:
            yield
            failed = False
        finally:
            self._loop.finished(time.monotonic() - begin, failed)

    def must_stop(self) -> bool:
        """Whether to give back what is held now: after a second signal, or at the end of the grace period."""
        return self._loop.must_stop.is_set()

    def stop(self) -> None:
        """Tells the worker to leave, as SIGTERM does; a second time, to give back what it holds."""
        self._loop.tell()

    def _end_fetch(self, task: bool) -> bool:
        """Ends the fetch that this thread or coroutine was allowed. False: there was none."""
        permit = self._permit.get(None)
        if permit is None or not permit.use():
            return False
        self._loop.fetched(task)
        return True
