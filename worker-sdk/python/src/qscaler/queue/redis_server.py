"""Connections to a Redis server, and the protocol's scripts on them."""

from __future__ import annotations

import hashlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

from qscaler.errors import QueueError, SettingsError
from qscaler.protocol import text
from qscaler.settings import Settings

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError:
    raise SettingsError("queues in Redis need its package: pip install 'qscaler[redis]'") from None

log = logging.getLogger("qscaler")

#: A server that takes longer to connect or to answer, in seconds, has failed this time.
ANSWER_MAX = 5.0
#: Who listens asks this often, in seconds, whether the server is still there.
PING_EVERY = 30
#: A listener that lost its connection makes another after this many seconds.
LISTEN_AGAIN = 1.0


class Script:
    """One of the protocol's scripts, hashed once."""

    def __init__(self, *files: str) -> None:
        self.text = text("redis", *(f"{file}.lua" for file in files))
        self.digest = hashlib.sha1(self.text.encode()).hexdigest()


class Asked(ABC):
    """What answers commands, and so runs scripts."""

    @abstractmethod
    def ask(self, *command: Any) -> Any:
        """Asks one command."""

    def run(self, script: Script, keys: list[str], *arguments: Any) -> Any:
        """Runs a script, by its digest where the server knows it."""
        try:
            return self.ask("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except QueueError as error:
            if not isinstance(error.__cause__, redis.exceptions.NoScriptError):
                raise
        return self.ask("EVAL", script.text, len(keys), *keys, *arguments)


@contextmanager
def named_errors() -> Iterator[None]:
    """What goes wrong with the server, as a `QueueError`."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise QueueError(f"redis: {error}") from error


class Server(Asked):
    """A server that runs the protocol's scripts. Its connections come back by themselves."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shared = self._client(ANSWER_MAX)

    def _client(self, answer_max: float) -> redis.Redis:
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
        return redis.Redis(connection_pool=pool)

    def refuse_eviction(self) -> None:
        """Refuses a server that may drop keys when its memory is full."""
        with named_errors():
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
        """See `Asked`."""
        with named_errors():
            return self._shared.execute_command(*command)  # type: ignore[no-untyped-call]

    def line(self, wait_max: float) -> Line:
        """A connection of its own, for commands that wait so many seconds at most."""
        return Line(self._client(wait_max + ANSWER_MAX).connection_pool)

    def unblock(self, number: int) -> None:
        """Ends what another connection waits for."""
        self.ask("CLIENT UNBLOCK", number)

    def kill(self, line: Line) -> bool:
        """Ends another connection: what was asked by it is done by now or never. False: no right."""
        try:
            # The number alone may be another's after the server started again.
            self.ask("CLIENT KILL", "ID", line.number, "ADDR", line.address)
        except QueueError as error:
            if isinstance(error.__cause__, redis.exceptions.NoPermissionError):
                return False
            raise
        return True

    def listen(self, channel: str, told: Callable[[], None], over: threading.Event) -> None:
        """Calls back at each message, and whenever one may have been missed, until it is over."""
        while not over.is_set():
            try:
                with self._shared.pubsub() as messages:  # type: ignore[no-untyped-call]
                    _listen_on(messages, channel, told, over)
            except redis.exceptions.NoPermissionError as error:
                log.warning("cannot listen for offers; looking for them now and then instead: %s", error)
                return
            except (redis.RedisError, OSError) as error:
                log.debug("lost the connection that listens for offers: %s", error)
            over.wait(LISTEN_AGAIN)

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        self._shared.connection_pool.disconnect(inuse_connections=False)


def _listen_on(
    messages: redis.client.PubSub, channel: str, told: Callable[[], None], over: threading.Event
) -> None:
    messages.subscribe(channel)
    silent = 0
    while not over.is_set():
        # Short waits, to see that it is over.
        message = messages.get_message(timeout=1.0)
        silent = silent + 1 if message is None else 0
        if silent == PING_EVERY:
            messages.ping()
        elif silent > PING_EVERY + ANSWER_MAX:
            raise redis.ConnectionError("no answer from the server")
        # Something may have been said before the subscription.
        if message is not None and message["type"] in ("message", "subscribe"):
            told()


class Line(Asked):
    """One connection, for one thread at a time. After a failure that is not the command's it is closed."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        connection: Any = pool.make_connection()
        self._connection = connection
        with named_errors():
            self._connection.connect()
        fields = dict(it.partition("=")[::2] for it in self.ask("CLIENT", "INFO").decode().split())
        #: What the server calls it.
        self.number = int(fields["id"])
        self.address = fields["addr"]

    def ask(self, *command: Any) -> Any:
        """See `Asked`."""
        with named_errors():
            self._connection.send_command(*command, check_health=False)
            return self._connection.read_response()

    def close(self) -> None:
        """Ends the connection."""
        self._connection.disconnect()
