"""SIGTERM and SIGINT, and the time that the first of them leaves."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Callable

#: What a worker still holds is given back this many seconds before its grace period ends, or a quarter of
#: the period where that is shorter.
MARGIN_MAX = 5.0


class Signals:
    """Calls back at each signal; in a `with` block of the main thread, else never."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._callback()


class Deadline:
    """When a worker that was told once must give back what it holds."""

    def __init__(self, grace: float) -> None:
        self._left = grace - min(MARGIN_MAX, grace / 4)
        self._told_at: float | None = None
        self._is_over = False

    def begin(self) -> None:
        """The worker was told to end. Only the first time counts."""
        if self._told_at is None:
            self._told_at = time.monotonic()

    def moment(self) -> float | None:
        """By the monotonic clock; nothing when it was not told, or the moment is over."""
        return None if self._told_at is None or self._is_over else self._told_at + self._left

    def end(self) -> None:
        """The moment has come."""
        self._is_over = True
