"""What a worker does with its tasks, over a queue in memory."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from typing import Any

import msgpack
import pytest
from support import counts, randomness, until

from qscaler import GivenBack, SettingsError, Worker, current_task
from qscaler.queue import Stop
from qscaler.report import State
from qscaler.task import Lease, Leased
from qscaler.testing import Dead, MemoryQueue


def queue_of(*payloads: Any) -> MemoryQueue:
    queue = MemoryQueue()
    for payload in payloads:
        queue.push(payload)
    return queue


def collector(**options: Any) -> tuple[Worker, list[Any]]:
    """A worker that keeps what it got."""
    worker, got = Worker(**options), []

    @worker.task
    def work(task: Any) -> None:
        got.append(task)

    return worker, got


def test_every_task_is_done_then_the_hook_runs_and_the_worker_claims_its_offer() -> None:
    worker, got = collector()
    worker.shutdown(lambda: got.append("hook"))
    queue = queue_of({"to": "ada"}, {"to": "bob"})
    ended = queue.drain_now(worker)
    assert (ended.claim, ended.done, ended.failed, ended.late_acks) == (1, 2, 0, 0)
    assert got == [{"to": "ada"}, {"to": "bob"}, "hook"]
    assert queue.done == [{"to": "ada"}, {"to": "bob"}]
    states = [report.state for report in queue.reports]
    assert (states[0], states[-1]) == (State.STARTING, State.DRAINED)
    assert queue.reports[-1].claim == 1


@pytest.mark.parametrize("payload", [0, "", {}, [], None, False])
def test_a_payload_that_is_falsy_is_a_task(payload: Any) -> None:
    worker, got = collector()
    queue_of(payload).drain_now(worker)
    assert got == [payload]


def test_a_task_that_fails_is_tried_five_times_and_put_aside_with_the_reason() -> None:
    worker = Worker()
    attempts = []

    @worker.task
    def work(task: str) -> None:
        attempts.append(current_task().attempt)
        raise RuntimeError(task)

    queue = queue_of("boom")
    ended = queue.drain_now(worker)
    assert attempts == [1, 2, 3, 4, 5]
    assert (ended.done, ended.failed) == (0, 5)
    assert queue.dead == [Dead("boom", "RuntimeError: boom", 5)]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_a_task_raises_fails_the_task_and_never_the_worker(error: BaseException) -> None:
    worker = Worker()

    @worker.task
    def work(task: str) -> None:
        if task == "bad" and current_task().attempt == 1:
            raise error

    queue = queue_of("bad", "good")
    assert queue.drain_now(worker).failed == 1
    assert sorted(queue.done) == ["bad", "good"]


def test_a_pickle_is_kept_among_the_dead_with_a_clear_reason_and_never_read() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for payload in ({"to": "ada"}, [1], 7, "text", None, Worker):
            data = pickle.dumps(payload, protocol)
            worker, got = collector()
            queue = queue_of(data)
            queue.drain_now(worker)
            assert got == []
            assert [dead.payload for dead in queue.dead] == [data]
            assert "set QSCALER_ALLOW_PICKLE=1" in queue.dead[0].error


def test_a_pickle_is_read_when_its_writers_are_trusted() -> None:
    worker, got = collector(allow_pickle=True)
    queue_of(pickle.dumps({"to": "ada"}), {"to": "bob"}).drain_now(worker)
    assert got == [{"to": "ada"}, {"to": "bob"}]


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b"", b"[" * 100_000, b"\x80", b"."])
def test_what_is_no_json_is_put_aside_at_once(data: bytes) -> None:
    worker, got = collector()
    queue = queue_of(data, "next")
    queue.drain_now(worker)
    assert got == ["next"]
    assert [(dead.payload, dead.attempts) for dead in queue.dead] == [(data, 1)]
    assert "this is not json" in queue.dead[0].error


def test_payloads_may_be_msgpack_or_bytes() -> None:
    worker, got = collector(payload="msgpack")
    queue = queue_of(msgpack.packb({"n": 1}), b"\xc1", msgpack.packb([1])[:1])
    queue.drain_now(worker)
    assert got == [{"n": 1}]
    assert ["this is not msgpack" in dead.error for dead in queue.dead] == [True, True]
    worker, got = collector(payload="bytes")
    queue_of(b"\x00\xff", pickle.dumps(1)).drain_now(worker)
    assert got == [b"\x00\xff", pickle.dumps(1)]


def test_slots_work_at_the_same_time() -> None:
    worker = Worker(slots=4)
    together = threading.Barrier(4, timeout=10)

    @worker.task
    def work(_task: int) -> None:
        together.wait()

    queue = queue_of(*range(8))
    assert queue.drain_now(worker).done == 8
    assert max(report.busy_slots for report in queue.reports) <= 4


def test_coroutines_share_one_event_loop_and_the_hook_may_be_one() -> None:
    worker = Worker(slots=3)
    seen: list[Any] = []

    @worker.task
    async def work(task: int) -> None:
        await asyncio.sleep(0.05)
        seen.append((asyncio.get_running_loop(), task, current_task().attempt))

    @worker.shutdown
    async def bye() -> None:
        seen.append((asyncio.get_running_loop(), "hook", 1))

    assert queue_of(1, 2, 3).drain_now(worker).done == 3
    assert len({loop for loop, _, _ in seen}) == 1
    assert sorted(str(task) for _, task, _ in seen) == ["1", "2", "3", "hook"]


def double(task: int) -> None:
    """Found by its name in another process."""
    if task == 13:
        raise ValueError("unlucky")


def die(_task: int) -> None:
    import os

    os.abort()


def test_slots_may_be_processes_whose_failures_are_told() -> None:
    worker = Worker(slots=2, processes=True, attempts_max=2)
    worker.task(double)
    queue = queue_of(1, 2, 13)
    assert queue.drain_now(worker).done == 2
    assert queue.dead == [Dead(13, "ValueError: unlucky", 2)]


def test_a_function_that_no_other_process_finds_is_refused_with_the_reason() -> None:
    worker, got = collector(processes=True)
    with pytest.raises(SettingsError, match="must stand at the top of its module"):
        queue_of(1).drain_now(worker)
    assert got == []


def test_a_process_that_dies_fails_its_task_and_the_next_gets_another() -> None:
    worker = Worker(processes=True, attempts_max=2)
    worker.task(die)
    queue = queue_of(1)
    queue.drain_now(worker)
    assert queue.dead == [Dead(1, "its process died: exit code -6", 2)]


@pytest.mark.parametrize("name", ["broker", "k8s_client", "current_task", "qworker"])
def test_what_the_originals_worker_had_and_this_one_has_not_is_refused_with_what_to_use(name: str) -> None:
    with pytest.raises(AttributeError, match=f"no '{name}', as it was in the original SDK: .+"):
        getattr(Worker(), name)
    assert not hasattr(Worker(), "anything_else")


def test_a_hook_that_fails_keeps_nobody_from_leaving() -> None:
    worker, got = collector()

    @worker.shutdown
    def bye() -> None:
        raise RuntimeError("no")

    assert queue_of(1).drain_now(worker).claim == 1
    assert got == [1]


class Stubborn:
    """A task that swallows every exception that is an `Exception`, until it is told to end."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.cleaned_up = threading.Event()
        self.went_on = threading.Event()

    def work(self, _task: Any) -> None:
        self.began.set()
        try:
            for _ in range(3000):
                try:
                    time.sleep(0.01)
                except Exception:
                    self.went_on.set()
        except GivenBack:
            self.cleaned_up.set()
            raise


def test_who_is_told_twice_gives_its_task_back_once_whatever_the_task_catches() -> None:
    worker, stubborn = Worker(), Stubborn()
    worker.task(stubborn.work)
    queue = queue_of("task")

    def tell() -> None:
        assert stubborn.began.wait(10)
        worker.stop()
        worker.stop()

    threading.Thread(target=tell).start()
    begin = time.monotonic()
    ended = queue.drain_now(worker)
    assert time.monotonic() - begin < 5
    assert (ended.done, ended.failed, ended.late_acks) == (0, 0, 0)
    assert [task.attempt for task in queue.waiting()] == [1], "once, and without blame"
    assert stubborn.cleaned_up.wait(1)
    assert not stubborn.went_on.is_set()


def test_a_task_that_swallows_even_its_end_is_given_back_once_all_the_same() -> None:
    worker, began, returned = Worker(), threading.Event(), threading.Event()

    @worker.task
    def work(_task: Any) -> None:
        began.set()
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            returned.set()

    queue = queue_of("task")

    def tell() -> None:
        assert began.wait(10)
        worker.stop()
        worker.stop()

    threading.Thread(target=tell).start()
    ended = queue.drain_now(worker)
    assert returned.wait(5)
    assert (ended.done, ended.failed, ended.late_acks) == (0, 0, 0)
    assert (queue.done, len(queue.waiting())) == ([], 1)


@pytest.mark.parametrize("slots", [1, 3])
def test_at_any_instant_a_task_is_either_done_or_given_back(slots: int) -> None:
    random = randomness("instants")
    for _ in range(counts(2000)):
        worker = Worker(slots=slots)

        @worker.task
        def work(seconds: float) -> None:
            # Gives the lock away often, so that an end may come between any two instructions.
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0)

        queue = queue_of(*(random.uniform(0, 0.004) for _ in range(slots)))
        timers = [threading.Timer(random.uniform(0.0, 0.006), worker.stop) for _ in range(2)]
        for timer in timers:
            timer.start()
        ended = queue.drain_now(worker)
        for timer in timers:
            timer.join()
        assert (ended.failed, ended.late_acks, queue.dead) == (0, 0, [])
        assert len(queue.done) == ended.done
        assert len(queue.done) + len(queue.waiting()) == slots


def test_a_coroutine_that_is_given_back_is_cancelled() -> None:
    worker, events = Worker(), []

    @worker.task
    async def work(_task: Any) -> None:
        try:
            worker.stop()
            worker.stop()
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    queue = queue_of("task")
    assert queue.drain_now(worker).done == 0
    assert len(queue.waiting()) == 1
    # Nobody waits for it.
    until("it is cancelled", lambda: events == ["cancelled"])


def sleep_long(_task: Any) -> None:
    time.sleep(60)


def test_a_process_that_is_given_back_is_killed() -> None:
    worker = Worker(processes=True)
    worker.task(sleep_long)
    queue = queue_of("task")

    def tell() -> None:
        while not queue.reports or queue.reports[-1].busy_slots == 0:
            time.sleep(0.01)
        worker.stop()
        worker.stop()

    threading.Thread(target=tell).start()
    begin = time.monotonic()
    assert queue.drain_now(worker).done == 0
    assert time.monotonic() - begin < 10
    assert len(queue.waiting()) == 1


def test_at_the_end_of_the_grace_period_the_task_goes_back() -> None:
    worker, stubborn = Worker(grace=1.0), Stubborn()
    worker.task(stubborn.work)
    queue = queue_of("task")

    def tell() -> None:
        assert stubborn.began.wait(10)
        worker.stop()

    threading.Thread(target=tell).start()
    begin = time.monotonic()
    assert queue.drain_now(worker).done == 0
    assert 0.7 < time.monotonic() - begin < 2.5
    assert len(queue.waiting()) == 1


class Broken(MemoryQueue):
    """A queue whose adapter has a bug, or that loses each lease."""

    def __init__(self, bug: str = "") -> None:
        super().__init__()
        self._bug = bug

    def ack(self, lease: Lease) -> bool:
        if self._bug == "ack":
            raise AttributeError("a bug")
        super().ack(lease)
        return False

    def fetch(self, wait: float, stop: Stop) -> Leased | None:
        if self._bug == "fetch":
            raise AttributeError("a bug")
        return super().fetch(wait, stop)

    def claim(self, epoch: str) -> int | None:
        if self._bug == "claim":
            raise AttributeError("a bug")
        return super().claim(epoch)


def test_an_ack_that_comes_after_the_lease_was_lost_is_counted() -> None:
    worker, _ = collector()
    queue = Broken()
    queue.push(1)
    ended = queue.drain_now(worker)
    assert (ended.done, ended.late_acks) == (0, 1)
    assert queue.reports[-1].late_acks == 1


@pytest.mark.parametrize("bug", ["ack", "fetch", "claim"])
def test_what_nobody_foresaw_ends_the_worker_aloud(bug: str) -> None:
    worker, _ = collector()
    queue = Broken(bug)
    queue.push(1)
    with pytest.raises(AttributeError, match="a bug"):
        queue.drain_now(worker)


def test_a_worker_can_be_run_again() -> None:
    worker, got = collector()
    worker.stop()
    assert queue_of(1).drain_now(worker).claim is None
    assert queue_of(2).drain_now(worker).claim == 1
    assert got == [2]


def test_a_worker_has_one_task_function() -> None:
    worker, _ = collector()
    with pytest.raises(NotImplementedError, match="one task function"):
        worker.task(double)
    with pytest.raises(SettingsError, match="decorate one with"):
        queue_of(1).drain_now(Worker())


def test_decorators_return_what_they_decorate() -> None:
    worker = Worker()
    assert worker.task(double) is double

    @worker.shutdown()
    def bye() -> str:
        return "bye"

    assert bye() == "bye"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "set QSCALER_QUEUE_URL, for example"),
        ({"QSCALER_QUEUE_URL": "redis://host"}, "set QSCALER_QUEUE, for example mail or high,low"),
        ({"QWORKER_NAME": "mailer"}, "the original controller started this pod"),
        ({"QSCALER_SLOTS": "many"}, "QSCALER_SLOTS is not a number: many"),
        ({"QSCALER_SLOTS": "0"}, "slots must be above zero"),
        ({"QSCALER_PARK": "maybe"}, "QSCALER_PARK is neither 1 nor 0"),
        ({"QSCALER_PAYLOAD": "xml"}, "type one of json, msgpack, bytes"),
    ],
)
def test_settings_that_cannot_work_say_what_to_type(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], says: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    worker, _ = collector()
    with pytest.raises(SettingsError, match=says):
        worker.run()


def test_the_environment_fills_in_and_arguments_overrule_it(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "QSCALER_QUEUE_URL": "redis://host/2",
        "QSCALER_QUEUE": "high, low",
        "QSCALER_WORKLOAD": "uid",
        "QSCALER_WORKER": "w1",
        "QSCALER_GRACE_SECONDS": "90",
        "QSCALER_SLOTS": "8",
        "QSCALER_ALLOW_PICKLE": "1",
        "PULLING_INTERVAL": "2",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Worker().settings()
    assert (settings.url, settings.queues, settings.grace) == ("redis://host/2", ("high", "low"), 90.0)
    assert (settings.slots, settings.allow_pickle, settings.fetch_wait) == (8, True, 2.0)
    assert settings.identity is not None
    assert (settings.identity.workload, settings.identity.worker) == ("uid", "w1")
    assert Worker(queue="mail", slots=2).settings().queues == ("mail",)
    assert Worker().queue == "high"
