"""Tasks and control path in a SQLite database, for one machine."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Union

from qscaler.errors import QueueError, SettingsError
from qscaler.protocol import random_name, text
from qscaler.queue import Queue, Stop, identity_or_nobody
from qscaler.report import Answer, Opening, Report
from qscaler.settings import Settings
from qscaler.task import Lease, Leased, Task

#: A writer waits this many seconds for another one before it gives up.
BUSY_MAX = 10.0
#: How many seconds an idle worker sleeps between two looks for a change.
LOOK_EVERY = 0.025
#: The first version that can return the rows of a change.
VERSION_MIN = (3, 35, 0)

Value = Union[None, int, float, str, bytes]


class Database:
    """A database that runs the protocol's texts. All threads share one connection."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Opens the file, creating it and its tables where they are missing."""
        if sqlite3.sqlite_version_info < VERSION_MIN:
            raise SettingsError(
                f"SQLite is {sqlite3.sqlite_version} here and must be 3.35: take a newer Python, or Redis"
            )
        try:
            # Transactions are begun here by hand.
            connection = sqlite3.connect(
                self._path, timeout=BUSY_MAX, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode = WAL")
            # Safe when a process is killed; the last transactions may be lost when the machine loses power.
            connection.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            raise QueueError(f"sqlite: {self._path}: {error}") from error
        self._connection = connection
        self.run("tables", {})

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time."""
        with self._lock:
            if self._connection is None:
                raise QueueError(f"sqlite: {self._path} is not open")
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise QueueError(f"sqlite: {error}") from error

    def run(self, name: str, parameters: Mapping[str, Value]) -> list[tuple[Any, ...]]:
        """Runs one text in a transaction; returns the rows of its last statement."""
        rows: list[tuple[Any, ...]] = []
        statements = _statements(name)
        with self.connection() as connection:
            connection.execute("BEGIN" if _only_reads(statements) else "BEGIN IMMEDIATE")
            try:
                for statement in statements:
                    rows = connection.execute(statement, parameters).fetchall()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return rows

    def version(self) -> tuple[int, int]:
        """Numbers that change whenever this or another connection has written. Costs no disk access."""
        with self.connection() as connection:
            return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


@cache
def _statements(name: str) -> tuple[str, ...]:
    return tuple(_split(text("sqlite", f"{name}.sql")))


def _split(script: str) -> Iterator[str]:
    """One statement at a time; a trigger's own statements stay in it."""
    statement = ""
    for part in script.split(";")[:-1]:
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@cache
def _only_reads(statements: tuple[str, ...]) -> bool:
    def first_line(statement: str) -> str:
        lines = (line for line in statement.splitlines() if line and not line.startswith("--"))
        return next(lines, "")

    return all(first_line(statement).startswith("SELECT") for statement in statements)


class SqliteQueue(Queue):
    """One worker's view of a database."""

    def __init__(self, settings: Settings) -> None:
        self._database = Database(settings.url.split(":", 1)[1])
        self._settings = settings
        self._identity = identity_or_nobody(settings)

    def open(self) -> None:
        """See `Queue`."""
        self._database.open()

    def fetch(self, wait: float, stop: Stop) -> Leased | None:
        """See `Queue`."""
        end = time.monotonic() + wait
        while True:
            version = self._database.version()
            for queue in self._settings.queues:
                if stop.is_set():
                    return None
                leased = self._take(queue)
                if leased is not None:
                    return leased
            while self._database.version() == version:
                if time.monotonic() >= end or stop.wait(LOOK_EVERY):
                    return None

    def _take(self, queue: str) -> Leased | None:
        # A look first, so that idle workers do not queue for the write lock.
        if not self._database.run("peek", {"queue": queue}):
            return None
        token = random_name()
        rows = self._database.run(
            "fetch",
            {
                "queue": queue,
                "lease": token,
                "worker": self._identity.worker,
                "lease_ms": _milliseconds(self._settings.lease),
            },
        )
        if not rows:
            return None
        number, payload, attempt, _ = rows[0]
        task = Task(str(number), queue, _bytes(payload), attempt)
        return Leased(task, Lease(queue, str(number), token))

    def _on_lease(self, name: str, lease: Lease, **more: Value) -> bool:
        return bool(self._database.run(name, {"id": int(lease.task), "lease": lease.token, **more}))

    def renew(self, lease: Lease) -> bool:
        """See `Queue`."""
        return self._on_lease("renew", lease, lease_ms=_milliseconds(self._settings.lease))

    def ack(self, lease: Lease) -> bool:
        """See `Queue`."""
        return self._on_lease("ack", lease)

    def give_back(self, lease: Lease, delay: float, counts: bool) -> bool:
        """See `Queue`."""
        return self._on_lease("return", lease, delay_ms=_milliseconds(delay), uncount=int(not counts))

    def bury(self, lease: Lease, error: str) -> bool:
        """See `Queue`."""
        return self._on_lease("bury", lease, error=error)

    def reap(self) -> int:
        """See `Queue`."""
        return len(self._database.run("reap", {"attempts_max": self._settings.attempts_max}))

    def _on_path(self, name: str, **more: Value) -> list[tuple[Any, ...]]:
        identity = {"workload": self._identity.workload, "worker": self._identity.worker}
        return self._database.run(name, {**identity, **more})

    def report(self, report: Report) -> Answer:
        """See `Queue`."""
        rows = self._on_path("report", report=report.to_json())
        epoch, named, anybody, claim, released = rows[0]
        opening = Opening.NAMED if named else Opening.ANY if anybody else Opening.NONE
        return Answer(epoch, opening, claim, bool(released))

    def claim(self, epoch: str) -> int | None:
        """See `Queue`."""
        rows = self._on_path("claim", epoch=epoch)
        return int(rows[0][0]) if rows else None

    def leave(self) -> None:
        """Leases say it all: nothing to do."""

    def close(self) -> None:
        """See `Queue`."""
        self._database.close()


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode()
