"""Workers and their Redis server: what they ask of it, and what they do when it is in trouble."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import EPOCH, Fleet, RedisServer, RedisSystem, counts, free_port, push, remaining, until

from qscaler import Worker
from qscaler.protocol import Identity
from qscaler.queue.redis import RedisQueue
from qscaler.settings import Settings

SECONDS = 20


class Log:
    """What clients asked the server, by the server's own words."""

    def __init__(self, server: RedisServer, log: Any) -> None:
        self._server = server
        self._log = log

    def read(self, by_scripts: bool = False) -> list[list[str]]:
        """The words of each command since the last time; also of those that scripts gave."""
        self._server.client().echo("so far")
        lines = []
        while (line := self._log.next_command())["command"] != "ECHO so far":
            if by_scripts or line["client_type"] != "lua":
                lines.append(line["command"].split())
        return lines


@contextmanager
def log_of(server: RedisServer) -> Iterator[Log]:
    with server.client().monitor() as log:  # type: ignore[no-untyped-call]
        yield Log(server, log)


def test_no_fetch_reaches_the_server_after_a_claim(redis_server: RedisServer, tmp_path: Path) -> None:
    system = RedisSystem(redis_server.url)
    with Fleet(tmp_path, system) as fleet, log_of(redis_server) as log:
        for number in range(6):
            queues = "work,more" if number % 2 else "work"
            fleet.start_counted("uid", f"w{number}", QSCALER_QUEUE=queues)
        until("all are idle", lambda: len(system.reports("uid")) == 6)
        system.adopt("uid")
        # They learn of the offers while they take one task after the other.
        for task in range(400):
            push(system, task, seconds=0.02)
        until("all work", lambda: all(worker.lines("start") for worker in fleet.workers))
        system.project("uid", [1, 2, 3, 4])
        until("four have left", lambda: sum(not it.is_running() for it in fleet.workers) == 4)
        until("all tasks are done", lambda: remaining(system) == 0)
        system.project("uid", [5, 6])
        assert [worker.wait() for worker in fleet.workers] == [0] * 6
        claimed: set[str] = set()
        acks = Counter[int]()
        for words in log.read(by_scripts=True):
            if words[0] == "HSET" and words[-1].startswith("claimed:"):
                claimed.add(words[-1][len("claimed:") :])
            if words[0] in ("BLMOVE", "LMOVE") and words[1] != words[2]:
                assert words[2].rsplit(":", 1)[1] not in claimed, words
            acks[len(claimed)] += words[0] == "LREM"
        assert len(claimed) == 6
        assert acks[4] > 40, f"four left while there was work for the others: {acks}"
        assert sum(acks.values()) == 400
        assert len(fleet.lines("end")) == 400


def test_an_idle_worker_asks_the_server_once_a_second_at_most(tmp_path: Path) -> None:
    with ExitStack() as stack:
        one, three = (stack.enter_context(RedisServer(tmp_path / name)) for name in ("one", "three"))
        of_one = stack.enter_context(Fleet(tmp_path, RedisSystem(one.url)))
        of_three = stack.enter_context(Fleet(tmp_path, RedisSystem(three.url), QSCALER_QUEUE="a,b,c"))
        workers = []
        for fleet, server in ((of_one, one), (of_three, three)):
            workers.append(fleet.start_counted("uid", "w"))
            system = RedisSystem(server.url)
            until("it is idle", partial(is_idle, system))
        with log_of(one) as log_one, log_of(three) as log_three:
            before = [cpu_seconds(worker.pid) for worker in workers]
            time.sleep(SECONDS)
            asked = [log_one.read(), log_three.read()]
            used = [cpu_seconds(worker.pid) - cpu for worker, cpu in zip(workers, before)]
        for lines, cpu in zip(asked, used):
            what = dict(Counter(words[0] for words in lines))
            print(f"idle for {SECONDS} s: {len(lines)} commands {what}, {cpu:.2f} s of CPU")
            assert len(lines) <= SECONDS, what
            assert cpu < 1.0
        # One that nobody counts has nothing to report.
        uncounted = of_one.start()
        uncounted.wait_until("connected")
        cpu = cpu_seconds(uncounted.pid)
        time.sleep(2)
        assert cpu_seconds(uncounted.pid) - cpu < 0.2


def is_idle(system: RedisSystem) -> bool:
    return bool(system.reports("uid").get("w", {}).get("state") == "idle")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.parametrize("hears", [True, False])
def test_an_idle_worker_leaves_when_it_hears_of_an_offer_or_else_when_it_looks(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, hears: bool
) -> None:
    system = RedisSystem(redis_server.url)
    system.adopt("uid")
    # Of the two ways only one is open.
    if hears:
        monkeypatch.setattr(RedisQueue, "look_every", 1_000.0)
    else:
        monkeypatch.setattr(RedisQueue, "listen", lambda *_: None)
    assert RedisQueue.look_every == (1_000.0 if hears else 5.0), "a lost wake-up costs no more"
    settings = Settings(url=system.url, queues=("q",), identity=Identity("uid", "w"))
    worker = Worker()
    worker.task(lambda _task: None)
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(worker.run_on, RedisQueue(settings), settings)
        # It has said that it knows the epoch, and has nothing more to say.
        until("it is idle", lambda: is_idle(system) and system.reports("uid")["w"]["epoch"] == EPOCH)
        time.sleep(0.5)
        system.project("uid", [1])
        assert ended.result(60).claim == 1


class Outage:
    """Four workers that are hard at work when something happens to their server."""

    def __init__(self, fleet: Fleet, system: RedisSystem) -> None:
        self.system = system
        self.fleet = fleet
        self.workers = [fleet.start_counted("uid", f"w{number}") for number in range(4)]
        self.pushed = 0

    def push(self, tasks: int) -> range:
        pushed = range(self.pushed, self.pushed + tasks)
        for task in pushed:
            push(self.system, task, seconds=0.04)
        self.pushed += tasks
        return pushed

    def begin_work(self) -> None:
        seen = [len(worker.lines("start")) for worker in self.workers]
        self.push(counts(2_000))
        until("each works", lambda: self._each_began_after(seen))

    def _each_began_after(self, seen: list[int]) -> bool:
        return all(len(worker.lines("start")) > past for worker, past in zip(self.workers, seen))

    def each_works_again(self, what: str) -> None:
        """Within ten seconds, unless others have left it nothing to do."""
        # The task that it had begun before may end first.
        seen = [len(worker.lines("start")) for worker in self.workers]
        begin = time.monotonic()
        until(
            f"each works again after: {what}",
            lambda: self._each_began_after(seen) or not remaining(self.system),
            10,
        )
        print(f"{what}: each worked again after {time.monotonic() - begin:.1f} s")

    def is_done(self, tasks: range) -> bool:
        return {str(task) for task in tasks} <= set(self.fleet.lines("end"))


def test_workers_outlive_a_server_that_starts_again_falls_silent_or_loses_everything(tmp_path: Path) -> None:
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    port = free_port()
    with RedisServer(tmp_path / "redis", *durable, port=port) as server:
        system = RedisSystem(server.url)
        with Fleet(tmp_path, system, LEASE="3", ATTEMPTS="1000") as fleet:
            outage = Outage(fleet, system)
            outage.begin_work()
            server.kill()
            time.sleep(1.0)
            server.start()
            outage.each_works_again("started again")
            until("every task is done", lambda: remaining(system) == 0, 120)

            outage.begin_work()
            server.signal(signal.SIGSTOP)
            time.sleep(counts(60))
            server.signal(signal.SIGCONT)
            outage.each_works_again("cut off")
            until("every task is done", lambda: remaining(system) == 0, 120)
            assert outage.is_done(range(outage.pushed)), "lost 0"

            outage.begin_work()
            system.client.flushall()
            # Only what comes after the loss is owed.
            owed = outage.push(counts(2_000))
            outage.each_works_again("wiped")
            until("what came after the loss is done", lambda: outage.is_done(owed), 120)
            until("all report again", lambda: len(system.reports("uid")) == 4, 10)

            assert all(worker.is_running() for worker in outage.workers), "nobody had asked them to leave"
            server.kill()
            time.sleep(2.0)
            for worker in outage.workers:
                worker.signal(signal.SIGTERM)
            assert [worker.wait(30) for worker in outage.workers] == [0] * 4, "also without a server"
            late = sum(int(line.split()[2]) for line in fleet.lines("gone"))
            twice = sum(
                times - 1 for times in Counter(line.split()[0] for line in fleet.lines("start")).values()
            )
            print(f"{outage.pushed} tasks, {twice} begun again, {late} late acknowledgements")
            assert twice <= late, "a task that ran twice is known as such"


@pytest.mark.parametrize(
    ("in_url", "password", "user"),
    [("", "its/own", "worker"), ("other@", "secret", "other"), ("other:secret@", "its/own", "other")],
)
def test_user_and_password_come_from_the_environment_where_the_url_holds_none(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, in_url: str, password: str, user: str
) -> None:
    client = redis_server.client()
    for name, own in (("worker", "its/own"), ("other", "secret")):
        client.execute_command("ACL", "SETUSER", name, "on", f">{own}", "~*", "&*", "+@all")  # type: ignore[no-untyped-call]
    monkeypatch.setenv("QSCALER_QUEUE_URL", redis_server.url.replace("//", f"//{in_url}"))
    monkeypatch.setenv("QSCALER_QUEUE", "q")
    monkeypatch.setenv("QSCALER_QUEUE_USERNAME", "worker")
    monkeypatch.setenv("QSCALER_QUEUE_PASSWORD", password)
    queue = RedisQueue(Worker().settings())
    queue.open()
    assert {it["user"] for it in client.client_list() if it["name"] == "qscaler"} == {user}
    queue.close()


def test_a_worker_waits_for_a_server_that_comes_later(tmp_path: Path) -> None:
    port = free_port()
    server = RedisServer(tmp_path / "redis", port=port)
    with Fleet(tmp_path, RedisSystem(server.url)) as fleet, server:
        server.kill()
        worker = fleet.start()
        worker.wait_until("started")
        time.sleep(1.0)
        assert worker.is_running()
        server.start()
        push(RedisSystem(server.url), 1)
        worker.wait_for("end")
        server.kill()
        early = fleet.start()
        early.wait_until("started")
        time.sleep(0.5)
        early.signal(signal.SIGTERM)
        assert early.wait() == 0, "told before anybody answered"
