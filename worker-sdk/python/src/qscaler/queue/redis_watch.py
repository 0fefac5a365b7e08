"""Waits at several Redis lists at once, and takes nothing.

Each wait moves the last element of its list to where it is already, on a connection and in a thread of its
own: it ends when there is an element, and no task can be lost by ending it.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from qscaler.background import start_thread
from qscaler.errors import QueueError
from qscaler.queue import Stop
from qscaler.queue.redis_server import Line, Server

#: A wait ends after this many seconds, so that one whose connection is gone is not for ever.
WAIT_MAX = 10.0


class Watch:
    """Whether there may be something to take in one of several lists."""

    def __init__(self, server: Server, queues: list[str]) -> None:
        self._changed = threading.Condition()
        # There may be something, until somebody has looked.
        self._news = True
        self._error: QueueError | None = None
        self._is_closed = False
        self._server = server
        self._waits = [_Wait(self, server, queue) for queue in queues]

    def take_news(self) -> bool:
        """Whether to look now. What comes while the caller looks is news again."""
        with self._changed:
            had_news, self._news = self._news, False
            return had_news

    def tell(self) -> None:
        """There may be something: where one task was there may be more."""
        with self._changed:
            self._news = True

    def wait(self, seconds: float, stop: Stop) -> None:
        """Waits so long for news, or until `stop` is set. Waits at lists that are under way stay so."""
        end = time.monotonic() + seconds
        with stop.calling(self.wake), self._changed:
            while not self._news and not stop.is_set() and time.monotonic() < end:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                for it in self._waits:
                    it.arm()
                self._changed.wait(end - time.monotonic())

    def wake(self) -> None:
        """Lets who waits look around."""
        with self._changed:
            self._changed.notify_all()

    def is_closed(self) -> bool:
        """Whether to end the threads."""
        return self._is_closed

    def answered(self, answer: Any, error: QueueError | None = None) -> None:
        """A wait has ended: there was something, or nothing, or it failed."""
        with self._changed:
            self._news = self._news or answer is not None
            self._error = error or self._error
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the threads; those that wait at a server that does not answer, when their wait is over."""
        self._is_closed = True
        with suppress(QueueError):
            for number in [it.end() for it in self._waits]:
                if number is not None:
                    self._server.unblock(number)


class _Wait:
    """A thread that waits at one list whenever it is armed."""

    def __init__(self, watch: Watch, server: Server, queue: str) -> None:
        self._watch = watch
        self._server = server
        self._queue = queue
        self._armed = threading.Event()
        self._line: Line | None = None
        start_thread("watch", self._run, lambda error: watch.answered(None, QueueError(f"redis: {error}")))

    def arm(self) -> None:
        """Waits, unless it does already."""
        self._armed.set()

    def _run(self) -> None:
        while not self._watch.is_closed():
            self._armed.wait()
            if self._watch.is_closed():
                break
            answer, failed = None, None
            try:
                if self._line is None:
                    self._line = self._server.line(WAIT_MAX)
                answer = self._line.ask("BLMOVE", self._queue, self._queue, "RIGHT", "RIGHT", WAIT_MAX)
            except QueueError as error:
                self._line, failed = None, error
            self._armed.clear()
            self._watch.answered(answer, failed)
        if self._line is not None:
            self._line.close()

    def end(self) -> int | None:
        """Lets the thread end. The number of the connection by which it may be waiting."""
        line = self._line
        self._armed.set()
        return None if line is None else line.number
