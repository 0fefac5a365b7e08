"""Threads beside the loop. All are daemons: a process ends although a task that was given back goes on."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Callable

from qscaler.errors import GivenBack

#: What is told of an error that nobody foresaw.
OnError = Callable[[BaseException], None]


class Background:
    """A thread that does one thing after the other."""

    def __init__(self, name: str, on_error: OnError) -> None:
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        start_thread(name, self._run, on_error)

    def do(self, work: Callable[[], None]) -> None:
        """Does this after what it was given before."""
        self._work.put(work)

    def end(self) -> None:
        """Ends after what it was given before."""
        self._work.put(_end_of_thread)

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if work is _end_of_thread:
                return
            work()


def _end_of_thread() -> None:
    """Marks the end of a thread's work."""


def start_thread(name: str, work: Callable[[], None], on_error: OnError) -> None:
    """Does something beside the loop, once."""

    def run() -> None:
        try:
            work()
        except GivenBack:
            # Its task was given back. The thread may get this once more in any moment: it is of no use now.
            return
        except BaseException as error:
            # Whoever waits for this thread must learn of it.
            on_error(error)

    threading.Thread(target=run, name=f"qscaler-{name}", daemon=True).start()
