"""A worker: say what its tasks do, run, leave."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Callable, TypeVar, overload

from qscaler.errors import SettingsError
from qscaler.queue import Queue, connect
from qscaler.settings import Settings, read_settings, split_queues
from qscaler.task import Ended
from qscaler.tasks import Program, TaskLoop

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from qscaler.settings import Options

F = TypeVar("F", bound=Callable[..., Any])

#: Attributes of the original's worker that this one does not have, and what there is instead.
_OF_THE_ORIGINAL = {
    "broker": "push tasks with a client of your own: redis.Redis(...).lpush(queue, json.dumps(task))",
    "current_task": "call qscaler.current_task() in the task function",
    "extra_termination": "call worker.stop()",
    "k8s_client": "workers have no rights on Kubernetes; mount a Secret or set a variable from it",
    "qworker": "workers have no rights on Kubernetes; the environment has what they need",
    "scaler_config": "workers have no rights on Kubernetes; the environment has what they need",
}


class Worker:
    """Takes tasks from a queue and hands each to one function.

    Where the URL or the queue is not given, the environment has them: `QSCALER_QUEUE_URL` and
    `QSCALER_QUEUE`, as the engine sets them. Nothing is connected before `run`.
    """

    def __init__(self, url: str | None = None, queue: str | None = None, **options: Unpack[Options]) -> None:
        self._url = url
        self._queue = queue
        self._options = options
        self._function: Callable[[Any], Any] | None = None
        self._hook: Callable[[], Any] | None = None
        self._lock = threading.Lock()
        self._loop: TaskLoop | None = None
        self._times_told = 0

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Only for what there is not."""
            instead = _OF_THE_ORIGINAL.get(name)
            hint = f", as it was in the original SDK: {instead}" if instead else ""
            raise AttributeError(f"a Worker has no {name!r}{hint}")

    def task(self, function: F) -> F:
        """Decorates the function, or coroutine function, that works on one payload.

        A task is done when it returns. An exception puts it back with a growing delay, and aside as dead
        after the last attempt. It must be importable by its name when `processes` are used.
        """
        if self._function is not None:
            raise NotImplementedError(
                "a worker has one task function: start another worker for another queue"
            )
        self._function = function
        return function

    @overload
    def shutdown(self, hook: F) -> F: ...

    @overload
    def shutdown(self) -> Callable[[F], F]: ...

    def shutdown(self, hook: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Decorates a function, or coroutine function, that runs once, after the last task."""
        return self._set_hook if hook is None else self._set_hook(hook)

    def _set_hook(self, hook: F) -> F:
        self._hook = hook
        return hook

    def settings(self) -> Settings:
        """What the worker runs with: the arguments, then the environment. Raises `SettingsError`."""
        queues = split_queues(self._queue) if self._queue else None
        return read_settings({"url": self._url, "queues": queues, **self._options})

    @property
    def queue(self) -> str:
        """The queue that it takes tasks from first."""
        settings = self.settings()
        settings.require_queues()
        return settings.queues[0]

    def run(self) -> Ended:
        """Takes tasks until an offer is claimed, or SIGTERM or SIGINT arrives.

        Then finishes what it holds, calls the shutdown hook and returns. The first signal gives tasks until
        shortly before the grace period ends, the second ends them at once; what is not finished goes back to
        its queue. Raises `SettingsError` when the settings cannot work.
        """
        settings = self.settings()
        settings.require_queues()
        return self.run_on(connect(settings), settings)

    def run_on(self, queue: Queue, settings: Settings) -> Ended:
        """The same over a queue of the caller's."""
        if self._function is None:
            raise SettingsError("the worker has no task function: decorate one with @worker.task")
        loop = TaskLoop(settings, queue, Program(self._function, self._hook))
        with self._lock:
            self._loop = loop
            for _ in range(self._times_told):
                loop.tell()
        try:
            return loop.run()
        finally:
            with self._lock:
                self._loop, self._times_told = None, 0
            loop.close()

    def stop(self) -> None:
        """Tells it to end, as SIGTERM does; a second time, to give back what it holds. From any thread."""
        with self._lock:
            self._times_told += 1
            if self._loop is not None:
                self._loop.tell()
