"""Queue systems: tasks go their ways, offers go to one worker, nothing is lost by a lost answer."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Callable

import pytest
from support import EPOCH, RedisServer, RedisSystem, System, free_port, until

from qscaler import QueueError, SettingsError
from qscaler.protocol import Identity
from qscaler.queue import Queue, Stop, connect
from qscaler.queue.redis import RedisQueue
from qscaler.queue.redis_server import Line, Script, Server
from qscaler.report import Answer, Opening, Report, State
from qscaler.settings import Settings
from qscaler.task import Lease

SOON = 0.2


def open_queue(url: str, name: str, *queues: str, **settings: str) -> Queue:
    """A worker's connection."""
    base = Settings(url=url, queues=queues or ("high", "low"), lease=1.5, identity=Identity("w", name))
    queue = connect(replace(base, **settings))  # type: ignore[arg-type]
    queue.open()
    return queue


def report(worker: str, state: State = State.IDLE) -> Report:
    return Report(worker, "boot", state, 5, 1, 0, 3, 0, 0, 1200)


def test_tasks_go_their_ways(system: System) -> None:
    stop = Stop()
    one, other = open_queue(system.url, "one"), open_queue(system.url, "other")
    assert system.measure("high") == (0, 0, 0, 0)
    assert one.fetch(SOON, stop) is None
    system.push("low", b"later")
    system.push("high", b"first")
    system.push("high", b"second")
    assert system.measure("high") == (2, 0, 0, 0)

    first = one.fetch(SOON, stop)
    assert first is not None
    assert (first.task.queue, first.task.payload, first.task.attempt) == ("high", b"first", 1)
    assert system.measure("high") == (1, 1, 0, 0)
    assert one.ack(first.lease)
    assert not one.ack(first.lease), "a second ack finds nothing"
    assert system.measure("high") == (1, 0, 0, 1)

    # Given back without blame, then with: the attempt counts once.
    for does_count in (False, True):
        second = other.fetch(SOON, stop)
        assert second is not None
        assert (second.task.payload, second.task.attempt) == (b"second", 1)
        assert other.give_back(second.lease, 0.0, does_count)
    second = other.fetch(SOON, stop)
    assert second is not None
    assert second.task.attempt == 2
    assert other.give_back(second.lease, 0.6, True)
    assert system.measure("high")[2] == 1, "it waits for its moment"
    low = one.fetch(SOON, stop)
    assert low is not None
    assert low.task.queue == "low"
    assert one.ack(low.lease)


def test_a_task_whose_holder_gives_no_sign_of_life_goes_to_another(system: System) -> None:
    stop = Stop()
    one, other = open_queue(system.url, "one"), open_queue(system.url, "other")
    system.push("high", b"second")
    lost = one.fetch(SOON, stop)
    assert lost is not None
    assert other.reap() == 0, "not before its lease is over"
    time.sleep(1.8)
    assert other.reap() == 1
    found = other.fetch(SOON, stop)
    assert found is not None
    assert (found.task.payload, found.task.attempt) == (b"second", 2)
    assert not one.ack(lost.lease), "who lost the lease cannot acknowledge"
    assert other.renew(found.lease)
    assert other.bury(found.lease, "it is poison")
    assert system.measure("high") == (0, 0, 0, 1)
    assert system.dead("high") == [(b"second", "it is poison")]
    other.leave()


def test_it_is_written_down_whose_work_was_cut_off_and_why(system: System) -> None:
    one, other = open_queue(system.url, "one"), open_queue(system.url, "other")
    for payload in (b"1", b"2", b"3"):
        system.push("high", payload)
    held = [it.lease for it in (one.fetch(SOON, Stop()) for _ in range(3)) if it is not None]
    assert one.ack(held[0])
    assert one.give_back(held[1], 0.0, False)
    assert not one.give_back(held[1], 0.0, False), "asked again"
    assert system.interrupted("high") == [("grace", 1, "one")]
    failed = other.fetch(SOON, Stop())
    assert failed is not None
    assert other.give_back(failed.lease, 0.0, True), "a task that failed was not cut off"
    assert other.fetch(SOON, Stop()) is not None
    until("both have lost what they held", lambda: len(system.interrupted("high")) == 3 or other.reap() < 0)
    assert other.reap() == 0
    lost = sorted(system.interrupted("high")[1:])
    assert lost == [("lost", 1, "one"), ("lost", 1, "other")]
    assert system.interrupted("low") == []


def test_a_worker_that_starts_again_under_its_name_has_lost_what_it_held(redis_server: RedisServer) -> None:
    system = RedisSystem(redis_server.url)
    system.push("high", b"bad")
    attempts: list[tuple[bytes, int]] = []
    # A task that takes its worker down is not tried for ever, nor again at once.
    for _ in range(5):
        queue = open_queue(system.url, "one")
        if attempts:
            assert queue.fetch(SOON, Stop()) is None
            assert system.measure("high") == (0, 0, 1, 0)
            # Also where no worker is left it counts as one that waits when its time has come.
            until("its time has come", lambda: system.measure("high") == (1, 0, 0, 0))
            queue.reap()
        leased = queue.fetch(SOON, Stop())
        assert leased is not None
        attempts.append((leased.task.payload, leased.task.attempt))
    assert attempts == [(b"bad", attempt) for attempt in range(1, 6)]
    assert open_queue(system.url, "one").fetch(SOON, Stop()) is None
    assert system.interrupted("high") == [("lost", 1, "one")] * 5
    assert [payload for payload, _ in system.dead("high")] == [b"bad"]


def test_a_task_that_waits_for_its_moment_comes_after_it(system: System) -> None:
    one = open_queue(system.url, "one")
    system.push("high", b"task")
    task = one.fetch(SOON, Stop())
    assert task is not None
    assert one.give_back(task.lease, 0.5, True)
    assert one.fetch(SOON, Stop()) is None
    time.sleep(0.5)
    one.reap()
    task = one.fetch(SOON, Stop())
    assert task is not None
    assert task.task.attempt == 2


def test_a_fetch_that_is_stopped_ends_at_once_and_takes_nothing(system: System) -> None:
    for queues in (("high",), ("high", "low")):
        queue = open_queue(system.url, "one", *queues)
        stop = Stop()
        stop.set()
        assert queue.fetch(60.0, stop) is None
        stop = Stop()
        begin = time.monotonic()
        threading.Timer(0.1, stop.set).start()
        assert queue.fetch(60.0, stop) is None
        assert time.monotonic() - begin < 2.0
        system.push("high", b"task")
        task = queue.fetch(SOON, Stop())
        assert task is not None, "and the next fetch works"
        assert queue.ack(task.lease)


def test_an_offer_goes_to_one_worker_and_a_named_one_to_nobody_else(system: System) -> None:
    one, other = open_queue(system.url, "one"), open_queue(system.url, "other")
    assert one.report(report("one")) == Answer()
    assert one.claim(EPOCH) is None
    system.adopt("w")
    system.project("w", [2, 3])
    system.project("w", [9], named="one")
    assert one.report(report("one")) == Answer(EPOCH, Opening.NAMED)
    assert other.report(report("other")) == Answer(EPOCH, Opening.ANY)
    assert one.claim("another epoch") is None
    assert (one.claim(EPOCH), one.claim(EPOCH)) == (9, 9), "asking again returns the claim"
    assert other.claim(EPOCH) == 2
    assert other.report(report("other")) == Answer(EPOCH, Opening.ANY, claim=2)
    assert system.claims("w") == {9: "one", 2: "other"}


def test_a_drained_report_can_be_released_and_the_worker_learns_of_it(system: System) -> None:
    one = open_queue(system.url, "one")
    one.report(report("one"))
    assert not system.release("w", "one", "boot"), "it did not say that it is drained"
    one.report(report("one", State.DRAINED))
    assert not system.release("w", "one", "another boot")
    assert system.release("w", "one", "boot")
    assert one.report(report("one", State.STARTING)).released


def test_a_worker_takes_up_a_task_whose_answer_was_lost(redis_server: RedisServer) -> None:
    system = RedisSystem(redis_server.url)
    queue = open_queue(system.url, "one", "q")
    assert queue.fetch(0.1, Stop()) is None
    # As if the server had moved the task and the connection had broken before it could say so.
    system.push("q", b"task")
    system.client.lmove("q", "qscaler:{q}:processing:one", "RIGHT", "LEFT")
    for client in system.client.client_list():
        if client["name"] == "qscaler":
            system.client.client_kill_filter(_id=client["id"])

    def fetch() -> bytes | None:
        try:
            leased = queue.fetch(0.1, Stop())
        except QueueError:
            return None
        if leased is None:
            return None
        assert queue.ack(leased.lease)
        return leased.task.payload

    assert until("the task is taken up", fetch) == b"task"


@pytest.mark.parametrize("was_done", [False, True])
@pytest.mark.parametrize("queues", [("q",), ("p", "q")])
@pytest.mark.parametrize("next_payload", [b"same", b"other", None])
def test_an_ack_and_a_task_whose_answers_were_lost_both_come_right(
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    was_done: bool,
    queues: tuple[str, ...],
    next_payload: bytes | None,
) -> None:
    system = RedisSystem(redis_server.url)
    queue = open_queue(system.url, "one", *queues)
    system.push("q", b"same")
    first = queue.fetch(SOON, Stop())
    assert first is not None
    if next_payload is not None:
        system.push("q", next_payload)
    asked: list[tuple[Script, list[str], list[Any]]] = []

    def losing(plain: Callable[..., Any], is_done: bool) -> Callable[..., Any]:
        def lose(by: Any, script: Script, keys: list[str], *arguments: Any) -> Any:
            asked.append((script, keys, list(arguments)))
            if is_done:
                plain(by, script, keys, *arguments)
            raise QueueError("the answer is lost")

        return lose

    with monkeypatch.context() as during:
        during.setattr(Line, "run", losing(Line.run, was_done))
        with pytest.raises(QueueError):
            queue.ack_and_take(first.lease)
        # And that of the question whether it was done.
        during.setattr(Server, "run", losing(Server.run, True))
        with pytest.raises(QueueError):
            queue.ack(first.lease)
    assert queue.ack(first.lease), "done by the turn or by this"
    second = queue.fetch(SOON, Stop())
    assert (second and second.task.payload) == next_payload
    script, keys, arguments = asked[0]
    late: Any = system.client.eval(script.text, len(keys), *keys, *arguments)
    assert late == [-1, None], "a turn that comes late does nothing"
    if second is not None:
        assert queue.ack(second.lease)
    assert queue.fetch(SOON, Stop()) is None
    assert queue.ack_and_take(first.lease) == (False, None)
    assert system.measure("q") == (0, 0, 0, 1 if next_payload is None else 2)


def one_of_two_alike(redis_server: RedisServer) -> tuple[RedisSystem, Queue, Lease]:
    """A worker that knows of one of two tasks in its list that look alike, and that there may be another."""
    system = RedisSystem(redis_server.url)
    queue = open_queue(system.url, "one", "q")
    system.push("q", b"alike")
    first = queue.fetch(SOON, Stop())
    assert first is not None
    lose_a_fetch(system, queue)
    system.client.lpush("qscaler:{q}:processing:one", "alike")
    return system, queue, first.lease


def lose_a_fetch(system: RedisSystem, queue: Queue) -> None:
    """The server may have moved a task."""
    for client in system.client.client_list():
        if client["name"] == "qscaler":
            system.client.client_kill_filter(_id=client["id"])
    with pytest.raises(QueueError):
        queue.fetch(SOON, Stop())


def finish(queue: Queue) -> int:
    """Does what is there. How many tasks that were."""
    done = 0
    while (leased := queue.fetch(SOON, Stop())) is not None:
        assert queue.ack(leased.lease)
        done += 1
    return done


def test_a_task_that_ends_while_the_worker_looks_hides_none_that_looks_like_it(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, queue, first = one_of_two_alike(redis_server)
    is_ended, has_looked = threading.Event(), threading.Event()
    run, ask = Server.run, Server.ask

    def answer_late(server: Server, script: Script, keys: list[str], *arguments: Any) -> Any:
        answer = run(server, script, keys, *arguments)
        if "qscaler:{q}:counters" in keys:
            is_ended.set()
            # Time for what should not happen; at once if it does.
            has_looked.wait(0.5)
        return answer

    def see(server: Server, *command: Any) -> Any:
        answer = ask(server, *command)
        if command[0] == "LRANGE":
            has_looked.set()
        return answer

    with ThreadPoolExecutor() as pool, monkeypatch.context() as during:
        during.setattr(Server, "run", answer_late)
        during.setattr(Server, "ask", see)
        kept = pool.submit(queue.ack, first)
        assert is_ended.wait(30)
        found = queue.fetch(SOON, Stop())
        assert kept.result(30)
    assert found is not None, "the other one"
    assert queue.ack(found.lease)
    assert finish(queue) == 0
    assert system.measure("q") == (0, 0, 0, 2)


def test_an_ack_whose_answer_was_lost_ends_no_other_task_that_looks_alike(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, queue, first = one_of_two_alike(redis_server)
    run = Server.run

    def lose(server: Server, script: Script, keys: list[str], *arguments: Any) -> Any:
        run(server, script, keys, *arguments)
        raise QueueError("the answer is lost")

    with monkeypatch.context() as during:
        during.setattr(Server, "run", lose)
        with pytest.raises(QueueError):
            queue.ack(first)
    assert queue.fetch(SOON, Stop()) is None, "the other one is taken for it"
    assert queue.ack_and_take(first) == (True, None)
    assert finish(queue) == 1
    assert system.measure("q") == (0, 0, 0, 2)


@pytest.mark.parametrize("may_end", [True, False])
def test_a_worker_that_leaves_in_doubt_stays_the_holder_until_its_lease_ends(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, may_end: bool
) -> None:
    system = RedisSystem(redis_server.url)
    if not may_end:
        system.client.execute_command("ACL", "SETUSER", "default", "-client|kill")  # type: ignore[no-untyped-call]
    queue = open_queue(system.url, "one", "q")
    assert queue.fetch(SOON, Stop()) is None
    ask = Line.ask

    def lose(line: Line, *command: Any) -> Any:
        if command[0] == "BLMOVE":
            raise QueueError("the answer is lost")
        return ask(line, *command)

    with monkeypatch.context() as during:
        during.setattr(Line, "ask", lose)
        with pytest.raises(QueueError):
            queue.fetch(SOON, Stop())
    queue.leave()
    leases: Any = system.client.zrange("qscaler:{q}:leases", 0, -1)
    assert leases == ([] if may_end else [b"one"]), "a task may yet come where it is not known that none does"


def test_a_take_that_comes_late_takes_nothing(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = RedisSystem(redis_server.url)
    queue = open_queue(system.url, "one", "p", "q")
    asked: list[Any] = []

    def lose(_line: Line, script: Script, keys: list[str], *arguments: Any) -> Any:
        asked.append((script.text, len(keys), *keys, *arguments))
        raise QueueError("the answer is lost")

    with monkeypatch.context() as during:
        during.setattr(Line, "run", lose)
        with pytest.raises(QueueError):
            queue.fetch(SOON, Stop())
    queue.leave()
    system.push("q", b"task")
    assert system.client.eval(*asked[0]) is None
    assert system.measure("q") == (1, 0, 0, 0)


@pytest.mark.parametrize("queues", [("q",), ("p", "q")])
def test_a_worker_that_starts_again_under_its_name_goes_on(
    redis_server: RedisServer, queues: tuple[str, ...]
) -> None:
    system = RedisSystem(redis_server.url)
    for number in range(8):
        system.push("q", b"%d" % number)
    got = []
    for _ in range(2):
        # The first one is never told to leave.
        queue = open_queue(system.url, "one", *queues)
        leased = queue.fetch(SOON, Stop())
        for _ in range(3):
            assert leased is not None
            got.append(leased.task.payload)
            kept, following = queue.ack_and_take(leased.lease)
            assert kept
            leased = following or queue.fetch(SOON, Stop())
    # What the first one held comes later.
    assert got == [b"%d" % number for number in (0, 1, 2, 4, 5, 6)]


def test_the_next_task_comes_with_the_ack_from_the_first_queue_that_has_one(system: System) -> None:
    queue = open_queue(system.url, "one")
    for payload in (b"low", b"high"):
        system.push(payload.decode(), payload)
    got = []
    leased = queue.fetch(SOON, Stop())
    while leased is not None:
        got.append(leased.task.payload)
        kept, following = queue.ack_and_take(leased.lease)
        assert kept
        leased = following or queue.fetch(SOON, Stop())
    assert got == [b"high", b"low"]
    assert system.measure("high") == system.measure("low") == (0, 0, 0, 1)


def test_waits_at_several_queues_outlive_a_fetch_and_see_what_comes_later(redis_server: RedisServer) -> None:
    before = set(threading.enumerate())
    system = RedisSystem(redis_server.url)
    queue = open_queue(system.url, "one", "a", "b", "c")
    for _ in range(3):
        assert queue.fetch(SOON, Stop()) is None
    waits: Any = system.client.info("commandstats")["cmdstat_blmove"]
    assert waits["calls"] == 3, "one for each queue"
    system.push("c", b"while nobody fetches")
    system.push("b", b"before it in the order of queues")
    for payload in (b"before it in the order of queues", b"while nobody fetches"):
        leased = queue.fetch(SOON, Stop())
        assert leased is not None
        assert leased.task.payload == payload
    queue.close()
    until("the waits end", lambda: set(threading.enumerate()) <= before, 5)


@pytest.mark.parametrize("may_listen", [True, False])
def test_an_offer_makes_itself_heard_and_who_may_not_listen_says_so_once(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, may_listen: bool
) -> None:
    system = RedisSystem(redis_server.url)
    system.adopt("w")
    channels = ["*"] if may_listen else []
    system.client.acl_setuser(
        "mailer", enabled=True, passwords=["+secret"], keys=["*"], channels=channels, commands=["+@all"]
    )
    queue = open_queue(system.url, "one", "q", username="mailer", password="secret")
    told, over = SimpleQueue[str](), threading.Event()
    listener = threading.Thread(target=queue.listen, args=(lambda: told.put("look"), over))
    listener.start()
    if may_listen:
        assert told.get(timeout=30) == "look", "something may have been said before it listened"
        system.project("w", [1])
        assert told.get(timeout=30) == "look"
        system.project("w", [1])
        over.set()
    listener.join(30)
    assert not listener.is_alive()
    assert told.empty(), "once for each new offer"
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == (0 if may_listen else 1)
    assert all("cannot listen for offers" in warning for warning in warnings)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_a_server_that_may_drop_keys_is_refused_with_what_to_type(tmp_path: Path, policy: str) -> None:
    with (
        RedisServer(tmp_path / "redis", "--maxmemory", "100mb", "--maxmemory-policy", policy) as server,
        pytest.raises(SettingsError, match="set maxmemory-policy noeviction"),
    ):
        open_queue(server.url, "one")


def test_a_user_with_few_rights_and_a_database_number_suffice(redis_server: RedisServer) -> None:
    admin = redis_server.client()
    rights = [
        "+@read",
        "+@write",
        "+@scripting",
        "+@connection",
        "+@blocking",
        "+info",
        "+time",
        "-@dangerous",
    ]
    admin.acl_setuser("mailer", enabled=True, passwords=["+secret"], keys=["*"], commands=rights)
    url = f"{redis_server.url}/3"
    with pytest.raises(QueueError):
        open_queue(url, "one", "q", username="mailer", password="wrong")
    by_settings = open_queue(url, "one", "q", username="mailer", password="secret")
    by_url = open_queue(url.replace("//", "//mailer:secret@"), "other", "q")
    redis_server.client(db=3).lpush("q", "first", "second")
    for queue in (by_settings, by_url):
        task = queue.fetch(SOON, Stop())
        assert task is not None
        assert queue.ack(task.lease)
        assert queue.report(report("one")) == Answer()


def test_a_server_with_a_certificate_of_ones_own_authority_is_trusted_by_its_file(tmp_path: Path) -> None:
    authority, files = make_certificates(tmp_path)
    port = free_port()
    line = ("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    with RedisServer(tmp_path / "redis", *line) as server:
        url = f"rediss://localhost:{port}"
        with pytest.raises(QueueError):
            open_queue(url, "one", "q")
        queue = open_queue(url, "one", "q", ca_file=str(authority))
        server.client().lpush("q", "task")
        task = queue.fetch(SOON, Stop())
        assert task is not None
        assert queue.ack(task.lease)


def make_certificates(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """An authority's certificate, and the server's options for one that it has signed."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    signs = ("-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *key, *signs, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
    files = ("--tls-cert-file", str(folder / "server.pem"), "--tls-key-file", str(folder / "server.key"))
    return folder / "ca.pem", (*files, "--tls-ca-cert-file", str(folder / "ca.pem"))


def test_a_url_of_no_system_says_what_to_type() -> None:
    with pytest.raises(SettingsError, match="type redis://HOST:PORT or sqlite:PATH"):
        connect(Settings(url="amqp://host"))
    with pytest.raises(SettingsError, match="type rediss://"):
        RedisQueue(Settings(url="redis://host", queues=("q",), ca_file="ca.pem"))
