"""Tasks, the hold that a worker has on one, and how one ended."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a worker took from its queue."""

    #: Its number or key in the queue system; with `attempt` it makes work idempotent.
    id: str
    #: The queue that it came from.
    queue: str
    #: The bytes that the producer put there.
    payload: bytes
    #: 1 for the first try.
    attempt: int


@dataclass(frozen=True)
class Lease:
    """A worker's hold on one task. Only the holder of the token may acknowledge."""

    #: The task's queue.
    queue: str
    #: The task, as the queue system finds it again.
    task: str
    #: Another one for each hold.
    token: str


@dataclass(frozen=True)
class Leased:
    """A task with the hold on it."""

    task: Task
    lease: Lease


@dataclass(frozen=True)
class Result:
    """How the work on a task ended, before its queue knows."""

    #: Why it failed; nothing when it is done.
    error: str | None = None
    #: Trying again cannot help.
    final: bool = False


@dataclass(frozen=True)
class Ended:
    """How a worker's life ended."""

    #: The offer that it claimed.
    claim: int | None
    #: Tasks done.
    done: int
    #: Tasks that raised an error.
    failed: int
    #: Tasks whose lease was lost before they were acknowledged: they may have run twice.
    late_acks: int


_current: ContextVar[Task] = ContextVar("qscaler_task")


def current_task() -> Task:
    """The task that the caller works on. `LookupError` outside of one."""
    return _current.get()


def set_current_task(task: Task) -> None:
    """Makes it the task of this thread or coroutine."""
    _current.set(task)
