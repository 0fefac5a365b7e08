"""What a worker needs of a queue system. One file per system beside this one."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from qscaler.errors import SettingsError
from qscaler.protocol import Identity, random_name
from qscaler.report import Answer, Report
from qscaler.settings import Settings
from qscaler.task import Lease, Leased


class Stop:
    """Ends a fetch early, once it is set."""

    def __init__(self) -> None:
        self._set = threading.Event()
        self._lock = threading.Lock()
        self._callback: Callable[[], None] | None = None

    def set(self) -> None:
        """Ends the fetch."""
        with self._lock:
            self._set.set()
            callback = self._callback
        if callback is not None:
            callback()

    def is_set(self) -> bool:
        """Whether the fetch is to end."""
        return self._set.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits so long, or until it is set: then true."""
        return self._set.wait(seconds)

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Calls back when it is set inside, or was before. The callback must not block."""
        with self._lock:
            self._callback = callback
            was_set = self._set.is_set()
        if was_set:
            callback()
        try:
            yield
        finally:
            with self._lock:
                self._callback = None


class ControlPath(ABC):
    """Where a worker reports, and finds offers to leave. Every operation is atomic there.

    Operations may be called from several threads at a time. Each raises `QueueError` when the system does
    not answer.
    """

    #: The longest pause between two reports, which are looks at the control path, too, in seconds.
    look_every = 1.0

    @abstractmethod
    def open(self) -> None:
        """Connects. Raises `SettingsError` when trying again cannot help."""

    @abstractmethod
    def report(self, report: Report) -> Answer:
        """Stores a report and returns what the control path says to this worker."""

    @abstractmethod
    def claim(self, epoch: str) -> int | None:
        """Takes an open offer, or returns the claim that this worker has. None: there is none to take."""

    def listen(self, told: Callable[[], None], over: threading.Event) -> None:  # noqa: B027 (not all can)
        """Calls back whenever there may be something new on the path, until it is over.

        Returns at once where the system tells nobody, or not this worker.
        """

    @abstractmethod
    def leave(self) -> None:
        """The worker holds nothing and ends: the queue system may forget it."""

    @abstractmethod
    def close(self) -> None:
        """Closes the connections."""


class Queue(ControlPath):
    """A connection to a queue system, for one worker. One thread at a time calls `fetch`."""

    @abstractmethod
    def fetch(self, wait: float, stop: Stop) -> Leased | None:
        """Waits up to `wait` seconds for a task and takes a lease on it.

        Ends early when `stop` is set, never losing a task by that.
        """

    @abstractmethod
    def renew(self, lease: Lease) -> bool:
        """Keeps a lease for its whole length from now. False: it was lost, and the task may run twice."""

    @abstractmethod
    def ack(self, lease: Lease) -> bool:
        """The task is done. False: the lease was lost before."""

    def ack_and_take(self, lease: Lease) -> tuple[bool, Leased | None]:
        """The same, and takes the next task if there is one, without waiting, where both cost as much as one.

        Called like `fetch`, by one thread at a time. When it raises `QueueError`, each half may have been
        done: the caller acknowledges again, and the task comes with one of the next fetches.
        """
        return self.ack(lease), None

    @abstractmethod
    def give_back(self, lease: Lease, delay: float, counts: bool) -> bool:
        """Puts the task back, to be taken after `delay` seconds.

        `counts`: this attempt counts against the task. False: the lease was lost before.
        """

    @abstractmethod
    def bury(self, lease: Lease, error: str) -> bool:
        """The task has failed for good. False: the lease was lost before."""

    @abstractmethod
    def reap(self) -> int:
        """Takes tasks from workers that stopped renewing. Returns how many went back to their queue."""


def connect(settings: Settings) -> Queue:
    """The queue system of the URL's scheme, not yet opened."""
    scheme = settings.url.split(":")[0]
    if scheme == "sqlite":
        from qscaler.queue.sqlite import SqliteQueue

        return SqliteQueue(settings)
    if scheme in ("redis", "rediss", "unix"):
        from qscaler.queue.redis import RedisQueue

        return RedisQueue(settings)
    raise SettingsError(f"{settings.url}: no queue system of this SDK; type redis://HOST:PORT or sqlite:PATH")


def identity_or_nobody(settings: Settings) -> Identity:
    """Who the worker is; one that nobody named gets an id of its own, to hold tasks with."""
    return settings.identity or Identity("none", random_name())
