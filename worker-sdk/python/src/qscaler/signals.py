"""SIGTERM and SIGINT, and the time that the first of them leaves."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Callable

#: Signals that tell a worker to end.
HEARD = (signal.SIGTERM, signal.SIGINT)
#: What a worker still holds is given back this many seconds before its grace period ends, or a quarter of
#: the period where that is shorter.
MARGIN_MAX = 5.0


class Signals:
    """Calls back at each signal; in a `with` block of the main thread, else never.

    Python's own handlers run when the main thread next can, once for however many came before: then a
    second signal would be lost while code without instructions of Python keeps the lock. So each is
    counted when it comes, by a byte in a socket, and heard in a thread of its own.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._before: dict[int, Any] = {}
        self._fd_before = -1
        self._sockets: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            reader, writer = self._sockets = socket.socketpair()
            writer.setblocking(False)
            self._fd_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            for number in HEARD:
                self._before[number] = signal.signal(number, _hear)
            threading.Thread(target=self._listen, args=(reader,), name="qscaler-signals", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sockets is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._fd_before)
        self._sockets[1].close()

    def _listen(self, reader: socket.socket) -> None:
        with reader:
            while numbers := reader.recv(64):
                for number in numbers:
                    if number in HEARD:
                        self._callback()
                if self._fd_before != -1:
                    # Whoever listened before goes on listening, an event loop for example.
                    with suppress(OSError):
                        os.write(self._fd_before, numbers)


def _hear(_number: int, _frame: FrameType | None) -> None:
    """The byte in the socket has said it."""


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
