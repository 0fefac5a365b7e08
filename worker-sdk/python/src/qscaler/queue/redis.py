"""Tasks in Redis lists, and the control path in Redis.

A task is moved, never popped: from the queue to a list of the worker's own, which it keeps by renewing a
lease. So a task is on the server in every moment, and when its worker gives no sign of life others put it
back.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from qscaler.errors import QueueError, SettingsError
from qscaler.protocol import PathKeys, QueueKeys, text
from qscaler.queue import Queue, Stop, identity_or_nobody
from qscaler.report import Answer, Opening, Report
from qscaler.settings import Settings
from qscaler.task import Lease, Leased, Task

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError:
    raise SettingsError("queues in Redis need its package: pip install 'qscaler[redis]'") from None

#: A server that takes longer to connect or to answer, in seconds, has failed this time.
ANSWER_MAX = 5.0
#: With several queues the worker waits at the first one this many seconds before it looks at all again.
LOOK_EVERY = 0.5
#: A wait at the server that was to end is asked to do so again after this many seconds.
UNBLOCK_EVERY = 0.05


class Script:
    """One of the protocol's scripts, hashed once."""

    def __init__(self, *files: str) -> None:
        self.text = text("redis", *(f"{file}.lua" for file in files))
        self.digest = hashlib.sha1(self.text.encode()).hexdigest()


ACK = Script("ack")
ATTEMPTS = Script("attempts")
BURY = Script("bury")
CLAIM = Script("server", "opening", "claim")
HOLD = Script("hold")
LEAVE = Script("leave")
REAP = Script("reap")
REPORT = Script("server", "opening", "report")
RETURN = Script("return")


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise QueueError(f"redis: {error}") from error


def _execute(client: redis.Redis, *command: Any) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


def run_on(client: redis.Redis, script: Script, keys: list[str], *arguments: Any) -> Any:
    """Runs a script on this connection, by its digest where the server knows it."""
    with _named_errors():
        try:
            return _execute(client, "EVALSHA", script.digest, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            return _execute(client, "EVAL", script.text, len(keys), *keys, *arguments)


class Server:
    """A server that runs the protocol's scripts. Its connections come back by themselves."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shared = self._client(ANSWER_MAX)

    def _client(self, answer_max: float, single: bool = False) -> redis.Redis:
        options: dict[str, Any] = {
            "socket_connect_timeout": ANSWER_MAX,
            "socket_timeout": answer_max,
            # A command that was sent twice could move two tasks, or find its own work done and take that
            # for a lost lease: whoever asks decides.
            "retry": Retry(NoBackoff(), 0),
            "client_name": "qscaler",
            "protocol": 2,
        }
        for name in ("username", "password"):
            if getattr(self._settings, name):
                options[name] = getattr(self._settings, name)
        if self._settings.url.startswith("rediss:"):
            options["ssl_check_hostname"] = True
        if self._settings.ca_file:
            if not self._settings.url.startswith("rediss:"):
                raise SettingsError("a file of certificates is set, but the URL has no TLS: type rediss://")
            options["ssl_ca_certs"] = self._settings.ca_file
        try:
            pool = redis.ConnectionPool.from_url(self._settings.url, **options)
        except (ValueError, TypeError) as error:
            raise SettingsError(f"the Redis URL: {error}") from error
        return redis.Redis(connection_pool=pool, single_connection_client=single)

    def refuse_eviction(self) -> None:
        """Refuses a server that may drop keys when its memory is full."""
        with _named_errors():
            try:
                answer: Any = self._shared.config_get("maxmemory-policy")
            except redis.ResponseError:
                # Who may not ask is trusted: the answer is a help and not a lock.
                return
        policy = str(answer.get("maxmemory-policy") or answer.get(b"maxmemory-policy", b"").decode())
        if policy.startswith("allkeys"):
            raise SettingsError(
                f"this Redis drops keys when its memory is full (maxmemory-policy {policy}), tasks and "
                f"offers among them: set maxmemory-policy noeviction"
            )

    def ask(self, *command: Any) -> Any:
        """Asks one command."""
        with _named_errors():
            return _execute(self._shared, *command)

    def run(self, script: Script, keys: list[str], *arguments: Any) -> Any:
        """Runs a script."""
        return run_on(self._shared, script, keys, *arguments)

    def waiting_client(self) -> redis.Redis:
        """A connection of its own, for commands that wait."""
        with _named_errors():
            return self._client(self._settings.fetch_wait_max() + ANSWER_MAX, single=True)

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        self._shared.connection_pool.disconnect(inuse_connections=False)


class RedisQueue(Queue):
    """One worker's view of a server."""

    def __init__(self, settings: Settings) -> None:
        identity = identity_or_nobody(settings)
        self._settings = settings
        self._server = Server(settings)
        self._keys = {queue: QueueKeys(queue) for queue in settings.queues}
        self._path = PathKeys(identity.workload)
        self._worker = identity.worker
        #: The connection that waits for tasks, with its number on the server.
        self._waiting: tuple[redis.Redis, int] | None = None
        #: Payloads that this worker holds, with their queue, by token.
        self._held: dict[str, tuple[str, bytes]] = {}
        self._tokens = 0
        self._lock = threading.Lock()
        self._held_since: float | None = None
        # An answer was lost: there may be a task in this worker's list that it does not know of.
        self._answer_lost = False

    def open(self) -> None:
        """See `Queue`."""
        self._server.refuse_eviction()
        self._server.ask("PING")

    def fetch(self, wait: float, stop: Stop) -> Leased | None:
        """See `Queue`."""
        if stop.is_set():
            return None
        self._hold_before_fetch()
        try:
            leased = self._recover() if self._answer_lost else None
            return leased or self._next(wait, stop)
        except QueueError:
            self._answer_lost = True
            self._disconnect()
            raise

    def _hold_before_fetch(self) -> None:
        """A worker holds before it fetches: what comes to its list is never without a holder."""
        since = self._held_since
        if since is None or time.monotonic() - since > self._settings.lease / 3:
            for keys in self._keys.values():
                self._hold(keys)
            self._held_since = time.monotonic()

    def _hold(self, keys: QueueKeys) -> bool:
        """Renews the hold on one queue. False: it had been given up."""
        kept = self._server.run(HOLD, [keys.leases], self._worker, _milliseconds(self._settings.lease))
        return bool(kept == 1)

    def _recover(self) -> Leased | None:
        """A task that came to this worker's list by an answer that was lost."""
        for keys in self._keys.values():
            listed = self._server.ask("LRANGE", self._processing(keys), 0, -1)
            with self._lock:
                known = [payload for queue, payload in self._held.values() if queue == keys.queue]
            for payload in listed:
                if payload not in known:
                    return self._take(keys, payload)
                known.remove(payload)
        self._answer_lost = False
        return None

    def _take(self, keys: QueueKeys, payload: bytes) -> Leased:
        with self._lock:
            self._tokens += 1
            token = f"{self._worker}#{self._tokens}"
            self._held[token] = (keys.queue, payload)
        try:
            # On the connection that has just moved it, which nobody else uses now.
            failed, digest = run_on(self._connect()[0], ATTEMPTS, [keys.attempts], payload)
        except QueueError:
            with self._lock:
                self._held.pop(token)
            raise
        name = digest.decode()
        return Leased(Task(name, keys.queue, payload, int(failed) + 1), Lease(keys.queue, name, token))

    def _next(self, wait: float, stop: Stop) -> Leased | None:
        """Moves the next task, waiting for one at the first queue."""
        if len(self._keys) > 1:
            wait = min(wait, LOOK_EVERY)
            for keys in self._keys.values():
                moved = self._server.ask("LMOVE", keys.queue, self._processing(keys), "RIGHT", "LEFT")
                if moved is not None:
                    return self._take(keys, moved)
        first = next(iter(self._keys.values()))
        moved = self._wait_at(first, wait, stop)
        return None if moved is None else self._take(first, moved)

    def _connect(self) -> tuple[redis.Redis, int]:
        if self._waiting is None:
            client = self._server.waiting_client()
            with _named_errors():
                self._waiting = (client, int(_execute(client, "CLIENT ID")))
        return self._waiting

    def _disconnect(self) -> None:
        # The next one has another number.
        if self._waiting is not None:
            self._waiting[0].connection_pool.disconnect()
            self._waiting = None

    def _wait_at(self, keys: QueueKeys, wait: float, stop: Stop) -> Any:
        client, number = self._connect()
        over = threading.Event()

        def unblock() -> None:
            # The server ends the waiting; should a task have come in the same moment, the answer has it.
            # Again and again, because the first may arrive there before the waiting begins.
            while not over.is_set():
                with suppress(QueueError):
                    self._server.ask("CLIENT UNBLOCK", number)
                over.wait(UNBLOCK_EVERY)

        # The server takes 0 for "without end".
        move = ("BLMOVE", keys.queue, self._processing(keys), "RIGHT", "LEFT", max(wait, 0.001))
        try:
            with _named_errors(), stop.calling(lambda: threading.Thread(target=unblock, daemon=True).start()):
                return _execute(client, *move)
        finally:
            over.set()

    def _processing(self, keys: QueueKeys) -> str:
        return keys.processing + self._worker

    def _on_held(self, script: Script, lease: Lease, keys: list[str], *more: Any) -> bool:
        """Runs a script on a task that is held; its result is whether it still was."""
        with self._lock:
            held = self._held.get(lease.token)
        if held is None:
            return False
        mine = self._processing(self._keys[lease.queue])
        kept = self._server.run(script, [mine, *keys], held[1], *more)
        with self._lock:
            self._held.pop(lease.token, None)
        return bool(kept == 1)

    def renew(self, lease: Lease) -> bool:
        """See `Queue`."""
        return self._hold(self._keys[lease.queue])

    def ack(self, lease: Lease) -> bool:
        """See `Queue`."""
        keys = self._keys[lease.queue]
        return self._on_held(ACK, lease, [keys.counters, keys.attempts])

    def give_back(self, lease: Lease, delay: float, counts: bool) -> bool:
        """See `Queue`."""
        keys = self._keys[lease.queue]
        others = [keys.queue, keys.attempts, keys.delayed, keys.counters]
        return self._on_held(RETURN, lease, others, _milliseconds(delay), int(counts))

    def bury(self, lease: Lease, error: str) -> bool:
        """See `Queue`."""
        keys = self._keys[lease.queue]
        why = json.dumps({"error": error, "worker": self._worker})
        return self._on_held(BURY, lease, [keys.dead, keys.errors, keys.counters, keys.attempts], why)

    def reap(self) -> int:
        """See `Queue`."""
        back = 0
        for keys in self._keys.values():
            names = [
                keys.leases,
                keys.queue,
                keys.attempts,
                keys.delayed,
                keys.counters,
                keys.dead,
                keys.errors,
            ]
            back += int(self._server.run(REAP, names, keys.processing, self._settings.attempts_max))
        return back

    def report(self, report: Report) -> Answer:
        """See `Queue`."""
        names = [self._path.offers, self._path.reports, self._path.released]
        answer = self._server.run(REPORT, names, self._worker, report.to_json())
        epoch, named, anybody, claim, released = answer
        opening = Opening.NAMED if named == 1 else Opening.ANY if anybody == 1 else Opening.NONE
        return Answer(epoch.decode() or None, opening, _offer(claim), released == 1)

    def claim(self, epoch: str) -> int | None:
        """See `Queue`."""
        return _offer(self._server.run(CLAIM, [self._path.offers], epoch, self._worker))

    def leave(self) -> None:
        """See `Queue`."""
        for keys in self._keys.values():
            self._server.run(LEAVE, [keys.leases, self._processing(keys), keys.turns + self._worker], self._worker)

    def close(self) -> None:
        """See `Queue`."""
        self._disconnect()
        self._server.close()


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _offer(number: int) -> int | None:
    return number if number >= 0 else None
