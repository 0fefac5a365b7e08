"""A worker for tests: each task says how long it takes; a diary says what happened when."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from typing import Any

from qscaler import Worker, current_task
from qscaler.settings import Options
from qscaler.tasks import Held, TaskLoop

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(threadName)s %(message)s")
#: Calls into it keep Python's lock, as code of extensions may.
LIBRARY = ctypes.PyDLL(None)
DIARY = os.open(os.environ["DIARY"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
OPTIONS: Options = {}
if os.environ.get("LEASE"):
    OPTIONS["lease"] = float(os.environ["LEASE"])
if os.environ.get("ATTEMPTS"):
    OPTIONS["attempts_max"] = int(os.environ["ATTEMPTS"])
worker = Worker(**OPTIONS)


def note(*words: object) -> None:
    """One line, in one piece, of which a killed process leaves all or nothing."""
    os.write(DIARY, (" ".join(map(str, words)) + "\n").encode())


@worker.task
def work(task: dict[str, Any]) -> None:
    note("start", task["id"], current_task().attempt)
    note("pid", os.getpid())
    end = time.monotonic() + task.get("seconds", 0)
    while time.monotonic() < end:
        try:
            time.sleep(0.002)
            if task.get("keeps_lock"):
                LIBRARY.usleep(500_000)
        except Exception as error:
            # What a user's code does that wants to live on whatever happens.
            note("swallowed", error)
    if task.get("fails"):
        raise ValueError("as it was told")
    note("end", task["id"])


@worker.shutdown
def bye() -> None:
    note("hook", os.getpid())


def die_after_fetch(times: int) -> None:
    """The process is killed with a task that the queue system has given it and that it has not begun."""
    plain = TaskLoop._fetched
    left = iter(range(times, 0, -1))

    def fetched(loop: TaskLoop, held: Held) -> None:
        if next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(loop, held)

    setattr(TaskLoop, "_fetched", fetched)  # noqa: B010 (a method of somebody else)


if __name__ == "__main__":
    if os.environ.get("DIE_AFTER_FETCH"):
        die_after_fetch(int(os.environ["DIE_AFTER_FETCH"]))
    note("boot", os.getpid())
    ended = worker.run()
    note("gone", ended.done, ended.failed, ended.late_acks)
