"""What a worker must know before it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

from qscaler.errors import SettingsError
from qscaler.protocol import Identity

# The protocol's variables, as the engine sets them.
WORKER = "QSCALER_WORKER"
WORKLOAD = "QSCALER_WORKLOAD"
QUEUE_URL = "QSCALER_QUEUE_URL"
QUEUE = "QSCALER_QUEUE"
GRACE_SECONDS = "QSCALER_GRACE_SECONDS"

PAYLOADS = ("json", "msgpack", "bytes")


class Options(TypedDict, total=False):
    """What `Worker` and `Lifecycle` take beside their URL; see `Settings`."""

    slots: int
    processes: bool
    payload: str
    allow_pickle: bool
    attempts_max: int
    lease: float
    grace: float
    park: bool
    ready_file: str
    ready_port: int
    username: str
    password: str
    ca_file: str


@dataclass(frozen=True)
class Settings:
    """A worker's settings. In a worker that the engine started, the environment has what it needs."""

    #: Where the queues are: `redis://HOST:PORT/DATABASE`, `rediss://…` with TLS, or `sqlite:PATH`.
    url: str = ""
    #: The queues to take tasks from, the most urgent first.
    queues: tuple[str, ...] = ()
    #: How many tasks it works on at a time, 1 or more.
    slots: int = 1
    #: Each slot is a process of its own instead of a thread.
    processes: bool = False
    #: What producers send: `json`, `msgpack` or `bytes`.
    payload: str = "json"
    #: Also read pickles. Whoever can write to the queue can then run code in this worker.
    allow_pickle: bool = False
    #: A task that failed this often is put aside as dead.
    attempts_max: int = 5
    #: Seconds without a renewal after which a task is given to another worker. Renewed three times as often.
    lease: float = 30.0
    #: Seconds that it may take to end after SIGTERM; what it still holds a little before is given back.
    grace: float = 30.0
    #: After it left by a claim, wait for SIGTERM instead of ending, where it would be started again.
    park: bool = False
    #: A file that exists while it takes tasks.
    ready_file: str = ""
    #: A port where `GET /readyz` answers 200 while it takes tasks, else 503; 0 for none.
    ready_port: int = 0
    #: For a Redis with access control, where the URL holds none.
    username: str = ""
    #: The same.
    password: str = ""
    #: Certificates (PEM) of the authority that signed the server's, for `rediss://`.
    ca_file: str = ""
    #: Who it is to the engine. Without, nobody counts it and it takes no offers.
    identity: Identity | None = None
    #: A fetch waits this many seconds for a task before the worker looks around again.
    fetch_wait: float = 5.0

    def fetch_wait_max(self) -> float:
        """The wait of a fetch: never so long that a hold could run out meanwhile."""
        return min(self.fetch_wait, self.lease / 3)

    def require_queues(self) -> None:
        """Raises `SettingsError` when it does not say where to take tasks from."""
        if not self.url and os.environ.get("QWORKER_NAME"):
            raise SettingsError(
                f"QWORKER_NAME is set and {QUEUE_URL} is not: the original controller started this pod. "
                f"QScaler's engine sets both; workers have no rights on Kubernetes to look a QWorker up. "
                f"Start it with {QUEUE_URL}=redis://HOST:6379 {QUEUE}=NAME"
            )
        if not self.url:
            raise SettingsError(f"set {QUEUE_URL}, for example redis://127.0.0.1:6379 or sqlite:queue.db")
        if not self.queues:
            raise SettingsError(f"set {QUEUE}, for example mail or high,low")


#: Variables that are plain values of a setting. `PULLING_INTERVAL` is the original's.
_VARIABLES = {
    QUEUE_URL: "url",
    GRACE_SECONDS: "grace",
    "PULLING_INTERVAL": "fetch_wait",
    "QSCALER_ALLOW_PICKLE": "allow_pickle",
    "QSCALER_PARK": "park",
    "QSCALER_PAYLOAD": "payload",
    "QSCALER_PROCESSES": "processes",
    "QSCALER_QUEUE_CA": "ca_file",
    "QSCALER_QUEUE_PASSWORD": "password",
    "QSCALER_QUEUE_USERNAME": "username",
    "QSCALER_PROBE_FILE": "ready_file",
    "QSCALER_PROBE_PORT": "ready_port",
    "QSCALER_SLOTS": "slots",
}


def read_settings(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment, overruled by what is `given` and not None."""
    variables = os.environ if environment is None else environment
    found: dict[str, Any] = {}
    for variable, name in _VARIABLES.items():
        if variables.get(variable):
            found[name] = _parse(variable, variables[variable], type(getattr(Settings, name)))
    if variables.get(QUEUE):
        found["queues"] = split_queues(variables[QUEUE])
    if variables.get(WORKLOAD) and variables.get(WORKER):
        found["identity"] = Identity(variables[WORKLOAD], variables[WORKER])
    found.update({name: value for name, value in given.items() if value is not None})
    unknown = found.keys() - {field.name for field in fields(Settings)}
    if unknown:
        raise SettingsError(f"no such setting: {', '.join(sorted(unknown))}")
    return _checked(replace(Settings(), **found))


def split_queues(text: str) -> tuple[str, ...]:
    """Names of queues, separated by commas."""
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _parse(variable: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("0", "1", "false", "true"):
            raise SettingsError(f"{variable} is neither 1 nor 0: {text}")
        return text.lower() in ("1", "true")
    try:
        return kind(text)
    except ValueError:
        raise SettingsError(f"{variable} is not a number: {text}") from None


def _checked(settings: Settings) -> Settings:
    if settings.payload not in PAYLOADS:
        raise SettingsError(f"payload is {settings.payload!r}: type one of {', '.join(PAYLOADS)}")
    for name in ("slots", "attempts_max", "lease", "fetch_wait"):
        if not getattr(settings, name) > 0:
            raise SettingsError(f"{name} must be above zero: {getattr(settings, name)}")
    if settings.grace < 0:
        raise SettingsError(f"grace must not be below zero: {settings.grace}")
    return settings
