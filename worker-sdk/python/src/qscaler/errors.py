"""What can go wrong."""

from __future__ import annotations


class SettingsError(ValueError):
    """The settings cannot work, whatever is tried; the text says what to type."""


class QueueError(Exception):
    """The queue system cannot be reached or refused; trying again may help."""


class Leaving(Exception):
    """The worker takes no more tasks: leave this one in its queue."""


class GivenBack(BaseException):
    """Ends the work on a task that was given back to its queue.

    No `Exception`, so that `except Exception` in a task does not swallow it.
    """
