"""Servers, queue systems and worker processes of the tests."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, Callable, TypeVar

import redis

from qscaler.protocol import PathKeys, QueueKeys
from qscaler.queue.redis_server import Script
from qscaler.queue.sqlite import Database, Value

T = TypeVar("T")
HERE = Path(__file__).parent
SEED = int(os.environ.get("QSCALER_SEED", "1"))
EPOCH = "epoch"


def counts(whole: int) -> int:
    """A tenth of a count, or all of it in a full run."""
    return whole if os.environ.get("QSCALER_FULL") else -(-whole // 10)


def randomness(of: str) -> random.Random:
    return random.Random(f"{SEED} {of}")


def until(what: str, look: Callable[[], T], seconds: float = 60.0) -> T:
    """Waits until something is so, looking often; fails after a time that no sound machine needs."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return int(it.getsockname()[1])


class RedisServer:
    """A server of the test's own, ended with it."""

    def __init__(self, folder: Path, *more: str, port: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._more = more
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        line = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [*line, "--dir", str(self._folder), *self._more],
            stdin=subprocess.DEVNULL,
            stdout=(self._folder / "log").open("ab"),
        )
        until("redis-server answers", self._answers)

    def _answers(self) -> bool:
        """Also that it has read what it had written, if it had."""
        with suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None, "it runs"
        self._process.send_signal(number)

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, protocol=2, **options)


class System(ABC):
    """A queue system as producers and the engine see it."""

    url: str

    @abstractmethod
    def push(self, queue: str, payload: bytes) -> None: ...

    @abstractmethod
    def measure(self, queue: str) -> tuple[int, int, int, int]:
        """Waiting, in flight, delayed, departed."""

    @abstractmethod
    def interrupted(self, queue: str) -> list[tuple[str, int, str]]:
        """Why, how many tasks, the worker whose work was cut off; the first first."""

    @abstractmethod
    def dead(self, queue: str) -> list[tuple[bytes, str]]:
        """Payloads that failed for good, and why; the first first."""

    @abstractmethod
    def adopt(self, workload: str) -> None:
        """Begins `EPOCH`."""

    @abstractmethod
    def project(self, workload: str, offers: Sequence[int], named: str | None = None) -> None:
        """Shows open offers."""

    @abstractmethod
    def claims(self, workload: str) -> dict[int, str]:
        """Workers by the offer that they have claimed."""

    @abstractmethod
    def reports(self, workload: str) -> dict[str, Any]:
        """What workers reported last."""

    @abstractmethod
    def release(self, workload: str, worker: str, boot: str) -> bool: ...


class RedisSystem(System):
    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url, protocol=2)

    def _run(self, script: Script, keys: list[str], *arguments: Any) -> Any:
        return self.client.eval(script.text, len(keys), *keys, *arguments)

    def push(self, queue: str, payload: bytes) -> None:
        self.client.lpush(queue, payload)

    def _measure(self, queue: str) -> list[Any]:
        keys = QueueKeys(queue)
        names = [keys.queue, keys.leases, keys.delayed, keys.counters, keys.interrupted]
        answer: list[Any] = self._run(Script("measure"), names, keys.processing, 0)
        return answer

    def measure(self, queue: str) -> tuple[int, int, int, int]:
        length, inflight, delayed, departed, _, _ = self._measure(queue)
        return length, inflight, delayed, departed

    def interrupted(self, queue: str) -> list[tuple[str, int, str]]:
        entries = [entry.decode().split(":", 3)[1:] for entry in self._measure(queue)[5]]
        return [(why, int(tasks), worker) for why, tasks, worker in reversed(entries)]

    def dead(self, queue: str) -> list[tuple[bytes, str]]:
        keys = QueueKeys(queue)
        payloads: Any = self.client.lrange(keys.dead, 0, -1)
        errors: Any = self.client.lrange(keys.errors, 0, -1)
        pairs = [(payload, json.loads(error)["error"]) for payload, error in zip(payloads, errors)]
        return pairs[::-1]

    def adopt(self, workload: str) -> None:
        assert self._run(Script("server", "adopt"), [PathKeys(workload).offers], "", EPOCH, 0) == 1

    def project(self, workload: str, offers: Sequence[int], named: str | None = None) -> None:
        state = f"open:{named}" if named else "open"
        pairs = [part for offer in offers for part in (offer, state)]
        assert self._run(Script("server", "project"), [PathKeys(workload).offers], EPOCH, *pairs) == 1

    def claims(self, workload: str) -> dict[int, str]:
        fields: Any = self.client.hgetall(PathKeys(workload).offers)
        return {
            int(name[2:]): state.decode().partition(":")[2]
            for name, state in fields.items()
            if name.startswith(b"o:") and state.startswith(b"claimed:")
        }

    def reports(self, workload: str) -> dict[str, Any]:
        fields: Any = self.client.hgetall(PathKeys(workload).reports)
        return {worker.decode(): json.loads(text.split(b":", 2)[2]) for worker, text in fields.items()}

    def release(self, workload: str, worker: str, boot: str) -> bool:
        keys = PathKeys(workload)
        return bool(self._run(Script("release"), [keys.reports, keys.released], worker, boot))


class SqliteSystem(System):
    def __init__(self, file: Path) -> None:
        self.url = f"sqlite:{file}"
        self._database = Database(str(file))
        self._database.open()

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Runs any statement, as other programs would."""
        with self._database.connection() as connection:
            return connection.execute(text, values).fetchall()

    def push(self, queue: str, payload: bytes) -> None:
        self.query("INSERT INTO qscaler_tasks (queue, payload) VALUES (?, ?)", queue, payload)

    def measure(self, queue: str) -> tuple[int, int, int, int]:
        rows = self._database.run("measure", {"queue": queue})
        if not rows:
            return 0, 0, 0, 0
        length, inflight, delayed, _, departed, _ = rows[0]
        return length, inflight, delayed, departed

    def interrupted(self, queue: str) -> list[tuple[str, int, str]]:
        rows = self._database.run("interrupted", {"queue": queue, "known": 0})
        return [(why, tasks, worker) for _, why, tasks, worker in rows]

    def dead(self, queue: str) -> list[tuple[bytes, str]]:
        rows = self.query("SELECT payload, error FROM qscaler_dead WHERE queue = ? ORDER BY id", queue)
        return [(payload, error) for payload, error in rows]

    def adopt(self, workload: str) -> None:
        values: dict[str, Value] = {"workload": workload, "epoch": EPOCH, "floor": 0, "seen": None}
        assert self._database.run("adopt", values)

    def project(self, workload: str, offers: Sequence[int], named: str | None = None) -> None:
        for offer in offers:
            values: dict[str, Value] = {"workload": workload, "epoch": EPOCH, "id": offer}
            self._database.run("project", {**values, "state": "open", "worker": named})

    def claims(self, workload: str) -> dict[int, str]:
        rows = self._database.run("offers", {"workload": workload})
        return {offer: worker for offer, state, worker in rows if state == "claimed"}

    def reports(self, workload: str) -> dict[str, Any]:
        rows = self._database.run("reports", {"workload": workload})
        reports = [json.loads(text) for text, _, _, _ in rows]
        return {report["worker"]: report for report in reports}

    def release(self, workload: str, worker: str, boot: str) -> bool:
        values = {"workload": workload, "worker": worker, "boot": boot}
        return bool(self._database.run("release", values))


def push(system: System, task: object, **more: object) -> None:
    system.push("work", json.dumps({"id": task, **more}).encode())


def remaining(system: System) -> int:
    """Tasks that are not done, wherever they are."""
    return sum(system.measure("work")[:3])


def is_held(system: System) -> bool:
    return system.measure("work")[1] > 0


class WorkerProcess(ABC):
    """A worker that runs, as a process; `program.py` keeps a diary."""

    def __init__(self, folder: Path, environment: dict[str, str], program: Path) -> None:
        self.diary = folder / f"{next(_numbers)}.diary"
        self.log = self.diary.with_suffix(".log")
        self._start(folder, {**_clean_environment(), "DIARY": str(self.diary), **environment}, program)

    @abstractmethod
    def _start(self, folder: Path, environment: dict[str, str], program: Path) -> None: ...

    #: Its process id.
    pid: int

    @abstractmethod
    def exit_code(self) -> int | None:
        """None while it runs."""

    def signal(self, number: int) -> None:
        """Nothing when it has just ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def press_control_c(self) -> None:
        """As a terminal does: all processes of the worker get it."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """Ends it as the kernel does when memory is short."""
        if self.is_running():
            self.signal(signal.SIGKILL)
        self.wait()

    def is_running(self) -> bool:
        return self.exit_code() is None

    def wait(self, seconds: float = 60.0) -> int:
        """Its exit code."""
        end = time.monotonic() + seconds
        while (code := self.exit_code()) is None:
            assert time.monotonic() < end, f"it still runs after {seconds} s:\n{self.log.read_text()}"
            time.sleep(0.01)
        return code

    def wait_until(self, word: str) -> None:
        """Waits for a line of the log: `started`, and signals end it in order, or `connected`."""
        until(f"it says {word}", lambda: f" {word}\n" in self.log.read_text())

    def lines(self, kind: str) -> list[str]:
        """What the diary says of one kind, in order."""
        with suppress(FileNotFoundError):
            # What follows the last line's end is still being written.
            *lines, _ = self.diary.read_text().split("\n")
            entries = [line.split(" ", 1) for line in lines]
            return [rest for word, rest in entries if word == kind]
        return []

    def wait_for(self, kind: str, times: int = 1) -> list[str]:
        return until(
            f"{times} times {kind!r} in the diary; the log says:\n{self.log.read_text()}",
            lambda: self.lines(kind) if len(self.lines(kind)) >= times else [],
        )

    def end(self) -> None:
        """Leaves nothing behind, however the test ended."""
        if self.is_running():
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGINT)
            with suppress(AssertionError):
                self.wait(5.0)
        self.kill()


class Started(WorkerProcess):
    """Started from nothing, as users do."""

    def _start(self, folder: Path, environment: dict[str, str], program: Path) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(program)],
                cwd=folder,
                env=environment,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid

    def exit_code(self) -> int | None:
        return self._process.poll()


class Hatched(WorkerProcess):
    """Forked by a nest."""

    def _start(self, folder: Path, environment: dict[str, str], program: Path) -> None:
        self._exit = self.diary.with_suffix(".exit")
        self.log.touch()
        worker = {"program": str(program), "environment": environment, "folder": str(folder)}
        self.pid = _nest().hatch({**worker, "log": str(self.log), "exit": str(self._exit)})

    def exit_code(self) -> int | None:
        if Path(f"/proc/{self.pid}").exists():
            return None
        # A signal after its handlers were taken down may end it before it has said how it ends.
        code = self._exit.read_text() if self._exit.exists() else ""
        return int(code) if code else -signal.SIGKILL


class Nest:
    """The process of `nest.py`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nest.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def hatch(self, worker: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(worker) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@cache
def _nest() -> Nest:
    """Ends with the tests, when its input does."""
    return Nest()


_numbers = iter(range(1_000_000))


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("QSCALER_")}


class Fleet:
    """Workers of one test, ended with it."""

    def __init__(self, folder: Path, system: System, **environment: str) -> None:
        self._folder = folder
        self._environment = {"QSCALER_QUEUE_URL": system.url, "QSCALER_QUEUE": "work", **environment}
        self.workers: list[WorkerProcess] = []

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        # Each of them, also when ending one fails.
        with ExitStack() as stack:
            for worker in self.workers:
                stack.callback(worker.end)

    def start(self, **environment: str) -> WorkerProcess:
        """One more, with these variables beside those of all."""
        return self.start_program(HERE / "program.py", environment)

    def start_program(self, program: Path, environment: dict[str, str]) -> WorkerProcess:
        """The same of another program."""
        return self._add(Started(self._folder, {**self._environment, **environment}, program))

    def _add(self, worker: WorkerProcess) -> WorkerProcess:
        self.workers.append(worker)
        return worker

    def start_counted(self, workload: str, worker: str, **environment: str) -> WorkerProcess:
        """One that the engine would count."""
        named = {"QSCALER_WORKLOAD": workload, "QSCALER_WORKER": worker}
        everything = {**self._environment, **named, **environment}
        return self._add(Hatched(self._folder, everything, HERE / "program.py"))

    def lines(self, kind: str) -> list[str]:
        return [line for worker in self.workers for line in worker.lines(kind)]
