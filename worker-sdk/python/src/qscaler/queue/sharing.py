"""A lock that many share, or one has alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Sharing:
    """Who wants it alone waits until nobody shares it, and others share it only after that."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared_by = 0
        self._wanted_by = 0
        self._is_alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """With others. Not inside of itself: one that wants it alone may come between."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone and not self._wanted_by)
            self._shared_by += 1
        try:
            yield
        finally:
            with self._changed:
                self._shared_by -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody."""
        with self._changed:
            self._wanted_by += 1
            self._changed.wait_for(lambda: not self._is_alone and not self._shared_by)
            self._wanted_by -= 1
            self._is_alone = True
        try:
            yield
        finally:
            with self._changed:
                self._is_alone = False
                self._changed.notify_all()
