"""Slots that are processes: for work that keeps Python's lock to itself, or that must be ended at once."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import pickle
import signal
import threading
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from qscaler.errors import GivenBack, SettingsError
from qscaler.payload import reader
from qscaler.signals import HEARD
from qscaler.slots import Function, Slot, perform
from qscaler.task import Result, Task

#: A fresh interpreter: a fork would copy the locks of this process's threads.
_SPAWN = multiprocessing.get_context("spawn")


class ProcessSlot(Slot):
    """Runs functions in a process that lives from task to task.

    A process that dies fails its task, and the next task gets a new one.
    """

    def __init__(self, function: Function, payload: str, allow_pickle: bool) -> None:
        self._start = (function, payload, allow_pickle)
        self._lock = threading.Lock()
        self._child: tuple[Any, Connection] | None = None
        self._was_interrupted = False

    def perform(self, task: Task) -> Result:
        """See `Slot`."""
        with self._lock:
            if self._was_interrupted:
                raise GivenBack
            if self._child is None:
                self._child = self._spawn()
            process, pipe = self._child
        try:
            pipe.send(task)
            result: Result = pipe.recv()
        except (EOFError, OSError):
            process.join()
            with self._lock:
                self._child = None
                if self._was_interrupted:
                    raise GivenBack from None
            return Result(f"its process died: exit code {process.exitcode}")
        return result

    def _spawn(self) -> tuple[Any, Connection]:
        here, there = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_work, args=(there, *self._start), name="qscaler-slot")
        # Deaf from its first moment: a Ctrl-C goes to every process of the terminal. Python starts its
        # resource tracker with the first process and hears signals again afterwards, so it comes before.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
        return process, here

    def interrupt(self, thread: int) -> None:  # noqa: ARG002 (the work is in the process)
        """See `Slot`. The process is killed, whatever it does."""
        with self._lock:
            self._was_interrupted = True
            if self._child is not None:
                self._child[0].kill()

    def close(self) -> None:
        """See `Slot`. An idle process ends by itself when its pipe closes."""
        super().close()
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child[1].close()
            child[0].join(1.0)
            if child[0].exitcode is None:
                child[0].kill()
                child[0].join()


def require_importable(function: Function) -> None:
    """Raises `SettingsError` when another process could not find the function by its name."""
    try:
        ForkingPickler.dumps(function)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise SettingsError(
            f"with processes the task function must stand at the top of its module: {error}"
        ) from None


def _work(pipe: Connection, function: Function, payload: str, allow_pickle: bool) -> None:
    """The life of a slot's process. The worker alone decides when it ends."""
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    read = reader(payload, allow_pickle)
    work = _in_loop(function) if inspect.iscoroutinefunction(function) else function
    with suppress(EOFError, OSError):
        while True:
            pipe.send(perform(work, read, pipe.recv()))


def _in_loop(function: Function) -> Function:
    loop = asyncio.new_event_loop()
    return lambda payload: loop.run_until_complete(function(payload))


def _end_with_parent() -> None:
    """A task whose worker died is another worker's: it must not be worked on here any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a slot's process has a parent"
    wait([parent.sentinel])
    os._exit(1)
