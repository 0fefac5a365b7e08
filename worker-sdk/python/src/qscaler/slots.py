"""Slots: each a thread that works on one task at a time, here or in a process of its own.

A task that is given back is *abandoned*: from that moment nobody waits for its result, so whatever the
user's code does cannot swallow it. The work is also ended: a function gets `GivenBack`, which is no
`Exception`, at its next Python instruction; a coroutine is cancelled; a process is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Callable

from qscaler.background import Background
from qscaler.errors import GivenBack
from qscaler.payload import Reader, Unreadable
from qscaler.task import Result, Task, set_current_task

log = logging.getLogger("qscaler")

#: What the user wrote: a function of the payload, or a coroutine function.
Function = Callable[[Any], Any]

DONE = Result()


def failure(task: Task, error: BaseException) -> Result:
    """Says why a task failed; the log has the whole trace."""
    if isinstance(error, Unreadable):
        return Result(str(error), final=True)
    log.warning("task %s of %s failed", task.id, task.queue, exc_info=error)
    return Result(f"{type(error).__name__}: {error}")


def perform(function: Function, read: Reader, task: Task) -> Result:
    """Works on one task in this thread. Whatever the function raises is its failure, an exit included."""
    set_current_task(task)
    try:
        function(read(task.payload))
    except GivenBack:
        raise
    except BaseException as error:
        return failure(task, error)
    return DONE


class Slot(ABC):
    """Fetches a task and works on it, in a thread of its own."""

    #: Whoever makes the slot gives it one.
    thread: Background

    @abstractmethod
    def perform(self, task: Task) -> Result:
        """Works on a task; called in the slot's thread. May raise `GivenBack` once it was interrupted."""

    @abstractmethod
    def interrupt(self, thread: int) -> None:
        """Ends the work that goes on in the slot's `thread`, as soon as that is possible. For good."""

    def close(self) -> None:
        """The slot gets no more work."""
        self.thread.end()


class ThreadSlot(Slot):
    """Runs functions in the slot's own thread."""

    def __init__(self, function: Function, read: Reader) -> None:
        self._function = function
        self._read = read

    def perform(self, task: Task) -> Result:
        """See `Slot`."""
        return perform(self._function, self._read, task)

    def interrupt(self, thread: int) -> None:
        """See `Slot`. Code that waits in the operating system goes on until it comes back."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(GivenBack))


class EventLoop:
    """An asyncio loop in a thread, on which all coroutines of a worker run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="qscaler-asyncio", daemon=True).start()

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Begins a coroutine; called in another thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Stops where it is, one turn later: what was cancelled before hears of it."""
        self._loop.call_soon_threadsafe(self._loop.call_soon, self._loop.stop)


class AsyncSlot(Slot):
    """Runs coroutines on the worker's event loop."""

    def __init__(self, function: Function, read: Reader, loop: EventLoop) -> None:
        self._function = function
        self._read = read
        self._loop = loop
        self._lock = threading.Lock()
        self._was_interrupted = False
        self._running: Future[Any] | None = None

    def perform(self, task: Task) -> Result:
        """See `Slot`."""
        with self._lock:
            if self._was_interrupted:
                raise GivenBack
            self._running = running = self._loop.submit(self._work(task))
        try:
            running.result()
        except BaseException as error:
            if self._was_interrupted:
                raise GivenBack from None
            return failure(task, error)
        return DONE

    async def _work(self, task: Task) -> None:
        set_current_task(task)
        await self._function(self._read(task.payload))

    def interrupt(self, thread: int) -> None:  # noqa: ARG002 (the work is on the loop)
        """See `Slot`. The coroutine is cancelled where it awaits."""
        with self._lock:
            self._was_interrupted = True
            if self._running is not None:
                self._running.cancel()


def run_hook(hook: Callable[[], Any], loop: EventLoop | None) -> None:
    """Calls a shutdown hook, function or coroutine function, and waits for its end."""
    if not inspect.iscoroutinefunction(hook):
        hook()
    elif loop is None:
        asyncio.run(hook())
    else:
        loop.submit(hook()).result()
