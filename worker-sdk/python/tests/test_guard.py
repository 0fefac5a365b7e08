"""Lifecycle only: a program with a queue library of its own leaves as a worker does."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support import RedisSystem, System, free_port, until

from qscaler import Leaving, Lifecycle, SettingsError
from qscaler.queue.redis import RedisQueue
from qscaler.queue.sqlite import SqliteQueue


@pytest.fixture
def _counted(monkeypatch: pytest.MonkeyPatch, system: System) -> None:
    """An engine counts the program."""
    monkeypatch.setenv("QSCALER_QUEUE_URL", system.url)
    monkeypatch.setenv("QSCALER_WORKLOAD", "uid")
    monkeypatch.setenv("QSCALER_WORKER", "w")


class Program:
    """Polls a queue of its own, in one thread or several."""

    def __init__(self, life: Lifecycle, threads: int = 1, wait: float = 0.02) -> None:
        self.life = life
        self.messages: list[float] = []
        self.handled = 0
        self.fetching = 0
        self._wait = wait
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while not self.life.should_leave():
            message = self._poll()
            if message is not None:
                with self.life.busy():
                    time.sleep(message)
                    self.handled += 1

    def _poll(self) -> float | None:
        with self._lock:
            self.fetching += 1
        time.sleep(self._wait)
        with self._lock:
            self.fetching -= 1
            return self.messages.pop() if self.messages else None

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.usefixtures("_counted")
def test_an_idle_program_leaves_when_it_has_claimed_an_offer(system: System) -> None:
    with Lifecycle() as life:
        program = Program(life)
        until("it reports", lambda: system.reports("uid"))
        program.messages.append(0.05)
        until("it has handled a message", lambda: program.handled == 1)
        system.adopt("uid")
        system.project("uid", [1])
        program.join()
        assert system.claims("uid") == {1: "w"}
        until("it says so", lambda: system.reports("uid")["w"]["state"] == "draining")
    report = system.reports("uid")["w"]
    assert (report["state"], report["done"], report["claim"]) == ("drained", 1, 1)


@pytest.mark.usefixtures("_counted")
def test_no_fetch_is_under_way_when_an_offer_is_claimed(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = RedisQueue if isinstance(system, RedisSystem) else SqliteQueue
    plain, under_way = kind.claim, []
    with Lifecycle(slots=3) as life:
        program = Program(life, threads=3, wait=0.3)

        def claim(queue: Any, epoch: str) -> int | None:
            under_way.append(program.fetching)
            return plain(queue, epoch)

        monkeypatch.setattr(kind, "claim", claim)
        until("it reports", lambda: system.reports("uid"))
        system.adopt("uid")
        system.project("uid", [1])
        program.join()
    assert under_way == [0]


@pytest.mark.usefixtures("_counted")
def test_a_busy_program_leaves_when_its_message_is_handled(system: System) -> None:
    with Lifecycle() as life:
        program = Program(life)
        program.messages.append(1.0)
        until("it is busy", lambda: system.reports("uid").get("w", {}).get("state") == "busy")
        system.adopt("uid")
        system.project("uid", [1])
        program.join()
        assert program.handled == 1


def test_who_is_told_to_end_leaves_and_a_message_from_nowhere_is_refused() -> None:
    with Lifecycle() as life:
        assert not life.should_leave()
        with life.busy():
            life.stop()
            assert not life.must_stop()
            life.stop()
            until("the second time is heard", life.must_stop)
        assert life.should_leave()
        with pytest.raises(Leaving), life.busy():
            """Nobody works here."""


def test_messages_that_come_without_asking_wait_for_the_gate() -> None:
    with Lifecycle(slots=1) as life:
        order: list[str] = []
        inside = threading.Event()

        def callback() -> None:
            inside.wait(10)
            with life.busy():
                order.append("second")

        thread = threading.Thread(target=callback)
        thread.start()
        with life.busy():
            inside.set()
            time.sleep(0.2)
            order.append("first")
        thread.join(10)
        assert order == ["first", "second"]


def test_an_error_in_the_program_ends_it() -> None:
    def run() -> None:
        with Lifecycle() as life:
            assert not life.should_leave()
            with life.busy():
                raise RuntimeError("broken")

    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="broken"):
        run()
    assert time.monotonic() - begin < 5


@pytest.mark.usefixtures("_counted")
def test_settings_that_cannot_work_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSCALER_QUEUE_URL", "amqp://host")
    with pytest.raises(SettingsError, match="type redis://HOST:PORT or sqlite:PATH"):
        Lifecycle()


@pytest.fixture
def readiness(tmp_path: Path) -> dict[str, Any]:
    return {"ready_file": str(tmp_path / "ready"), "ready_port": free_port()}


def answers(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_file_and_a_port_say_whether_it_takes_tasks(readiness: dict[str, Any]) -> None:
    file, port = Path(readiness["ready_file"]), readiness["ready_port"]
    file.touch()
    with Lifecycle(**readiness) as life:
        assert not life.should_leave()
        assert file.exists()
        assert answers(port) == 200
        life.stop()
        assert life.should_leave()
        assert answers(port) == 503
        assert not file.exists()
    with pytest.raises(urllib.error.URLError):
        answers(port)
