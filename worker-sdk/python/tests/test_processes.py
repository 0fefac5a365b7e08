"""Workers as processes: signals, kills, offers, servers that go away."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from support import (
    HERE,
    Fleet,
    RedisSystem,
    SqliteSystem,
    System,
    WorkerProcess,
    counts,
    is_held,
    push,
    randomness,
    remaining,
    until,
)

EXAMPLES = HERE.parent / "examples"


def test_sigterm_at_a_random_instant_finishes_the_task_or_gives_it_back_once(
    system: System, tmp_path: Path
) -> None:
    random = randomness("sigterm")
    tasks = 0
    for _ in range(counts(300) // 5):
        with Fleet(tmp_path, system, QSCALER_SLOTS=str(random.choice([1, 3]))) as fleet:
            for _ in range(5):
                for _ in range(4):
                    push(system, tasks, seconds=random.uniform(0, 0.1))
                    tasks += 1
                fleet.start()
            for worker in fleet.workers:
                worker.wait_until("started")
            for worker in fleet.workers:
                time.sleep(random.uniform(0, 0.1))
                worker.signal(signal.SIGTERM)
            assert [worker.wait() for worker in fleet.workers] == [0] * 5
            assert not is_held(system)
            starts, ends = fleet.lines("start"), fleet.lines("end")
            assert len(starts) == len(ends), "what began was finished"
            assert [attempt.split()[1] for attempt in starts] == ["1"] * len(starts)
            assert len(set(ends)) == len(ends)
            assert all(len(worker.lines("hook")) == 1 for worker in fleet.workers)
            assert [line.split()[1:] for line in fleet.lines("gone")] == [["0", "0"]] * 5
            assert remaining(system) + system.measure("work")[3] == tasks


def test_a_second_signal_gives_the_task_back_once_whatever_the_task_catches(
    system: System, tmp_path: Path
) -> None:
    random = randomness("twice")
    for number in range(counts(60)):
        with Fleet(tmp_path, system) as fleet:
            push(system, number, seconds=60)
            worker = fleet.start(QSCALER_PROCESSES=str(number % 2))
            worker.wait_for("start")
            worker.signal(signal.SIGTERM)
            # Before, the system itself may take two for one.
            worker.wait_until("told to end")
            time.sleep(random.uniform(0, 0.05))
            worker.signal(random.choice([signal.SIGTERM, signal.SIGINT]))
            assert worker.wait(10) == 0
            assert worker.lines("end") == worker.lines("swallowed") == []
            assert len(worker.lines("hook")) == 1
            assert system.measure("work")[:3] == (1, 0, 0)
            # The next one takes it, as if it had never been taken.
            other = fleet.start()
            assert other.wait_for("start") == [f"{number} 1"]
            other.kill()
        if isinstance(system, RedisSystem):
            system.client.flushall()
        else:
            assert isinstance(system, SqliteSystem)
            system.query("DELETE FROM qscaler_tasks")


def test_a_second_signal_counts_also_while_a_task_keeps_pythons_lock(system: System, tmp_path: Path) -> None:
    with Fleet(tmp_path, system) as fleet:
        push(system, 1, seconds=60, keeps_lock=True)
        worker = fleet.start()
        worker.wait_for("start")
        worker.signal(signal.SIGTERM)
        time.sleep(0.1)
        worker.signal(signal.SIGTERM)
        assert worker.wait(15) == 0
        assert system.measure("work")[:3] == (1, 0, 0)


def test_control_c_at_a_random_instant_fails_no_task_that_is_in_a_process(
    system: System, tmp_path: Path
) -> None:
    random = randomness("control-c")
    for number in range(counts(50)):
        with Fleet(tmp_path, system, QSCALER_PROCESSES="1") as fleet:
            worker = fleet.start()
            worker.wait_until("connected")
            push(system, number, seconds=0.1)
            time.sleep(random.uniform(0, 0.5))
            worker.press_control_c()
            assert worker.wait() == 0
            (left,) = worker.wait_for("gone")
            done, failed, late = left.split()
            assert (failed, late) == ("0", "0")
            assert remaining(system) == 1 - int(done)
            # What was not taken is for the next.
            other = fleet.start()
            other.wait_until("started")
            until("it is done", lambda: remaining(system) == 0)
            other.signal(signal.SIGTERM)
            assert other.wait() == 0
            assert fleet.lines("end") == [str(number)]


def until_busy_or_done(worker: WorkerProcess, system: System) -> None:
    seen = len(worker.lines("start"))
    until("it begins a task", lambda: len(worker.lines("start")) > seen or not remaining(system))


def test_nothing_is_lost_when_busy_workers_are_killed(system: System, tmp_path: Path) -> None:
    random = randomness("kill")
    tasks, kills = counts(2000), counts(100)
    # So many attempts that a task on which several workers die is not taken for poison.
    with Fleet(tmp_path, system, LEASE="2", ATTEMPTS="1000") as fleet:
        running = [fleet.start() for _ in range(4)]
        for kill in range(kills):
            # The youngest of every fifth round dies by itself, with a task that it has fetched and not begun.
            dies_by_itself = kill % 5 == 4
            for worker in running:
                worker.wait_until("connected")
            for task in range(kill * tasks // kills, (kill + 1) * tasks // kills):
                push(system, task, seconds=random.uniform(0, 0.1))
            victim = running[-1] if dies_by_itself else random.choice(running)
            if dies_by_itself:
                victim.wait()
            else:
                until_busy_or_done(victim, system)
                time.sleep(random.uniform(0, 0.1))
                victim.kill()
            running.remove(victim)
            running.append(fleet.start(DIE_AFTER_FETCH="1" if kill % 5 == 3 else ""))
        until("every task is done", lambda: remaining(system) == 0, 180)
        starts, done = fleet.lines("start"), Counter(fleet.lines("end"))
        assert sorted(map(int, done)) == list(range(tasks)), "lost 0"
        assert system.measure("work")[3] == tasks
        twice = len(starts) - tasks
        assert twice <= kills, "no more duplicates than kills"
        # Each duplicate is known as such: it was not its task's first attempt.
        begun = Counter(line.split()[0] for line in starts)
        known = {line.split()[0] for line in starts if not line.endswith(" 1")}
        assert {task for task, times in begun.items() if times > 1} <= known
        print(f"{tasks} tasks, {kills} kills: lost 0, {twice} began twice")


def test_of_twenty_idle_workers_exactly_thirteen_take_thirteen_offers(system: System, tmp_path: Path) -> None:
    for run in range(counts(200) // 2):
        with Fleet(tmp_path, system) as fleet:
            thirteen_of_twenty(system, fleet, f"uid-{run}")


def thirteen_of_twenty(system: System, fleet: Fleet, workload: str) -> None:
    random = randomness(workload)
    for number in range(20):
        fleet.start_counted(workload, f"w{number}")
    until("all report", lambda: len(system.reports(workload)) == 20)
    system.adopt(workload)
    offers = list(range(1, 14))
    random.shuffle(offers)
    for offer in offers:
        time.sleep(random.uniform(0, 0.02))
        system.project(workload, [offer])
        # An engine that did not hear the answer, or another one, shows some of them again.
        system.project(workload, offers[: random.randrange(14)])
    begin = time.monotonic()
    until("all are claimed", lambda: len(system.claims(workload)) == 13)
    print(f"thirteen offers were claimed within {time.monotonic() - begin:.2f} s after the last")
    until("thirteen have left", lambda: sum(not it.is_running() for it in fleet.workers) >= 13)
    for task in range(40):
        push(system, task)
    until("the others work on", lambda: remaining(system) == 0)
    gone = [worker for worker in fleet.workers if not worker.is_running()]
    assert len(gone) == 13
    assert [worker.wait() for worker in gone] == [0] * 13
    assert all(len(worker.lines("hook")) == 1 for worker in gone)
    assert not any(worker.lines("start") for worker in gone), "no fetch after a claim"
    claims = system.claims(workload)
    assert sorted(claims) == sorted(offers)
    assert len(set(claims.values())) == 13
    states = Counter(report["state"] for report in system.reports(workload).values())
    assert states["drained"] == 13


def test_a_task_in_a_process_ends_with_its_worker(system: System, tmp_path: Path) -> None:
    with Fleet(tmp_path, system, QSCALER_PROCESSES="1") as fleet:
        push(system, 1, seconds=60)
        worker = fleet.start()
        (pid,) = worker.wait_for("pid")
        assert int(pid) != worker.pid
        worker.kill()
        until("the slot's process has ended", lambda: not is_alive(int(pid)), 5)


def test_busy_workers_take_an_offer_when_their_task_ends(system: System, tmp_path: Path) -> None:
    with Fleet(tmp_path, system) as fleet:
        for task in range(3):
            push(system, task, seconds=1.0)
        for number in range(3):
            fleet.start_counted("uid", f"w{number}")
        until("all are busy", lambda: len(fleet.lines("start")) == 3)
        system.adopt("uid")
        system.project("uid", [1, 2])
        until("two have left", lambda: sum(not it.is_running() for it in fleet.workers) == 2)
        until("all tasks are done", lambda: remaining(system) == 0)
        assert sorted(fleet.lines("end")) == ["0", "1", "2"]


def test_a_worker_that_is_started_again_after_its_claim_takes_nothing(system: System, tmp_path: Path) -> None:
    with Fleet(tmp_path, system) as fleet:
        system.adopt("uid")
        system.project("uid", [1], named="w")
        assert fleet.start_counted("uid", "w").wait() == 0
        push(system, 1)
        assert fleet.start_counted("uid", "w").wait() == 0
        assert fleet.lines("start") == []
        assert remaining(system) == 1


def test_a_worker_that_parks_stays_drained_until_it_is_told_to_end(system: System, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with Fleet(tmp_path, system, QSCALER_PARK="1", QSCALER_PROBE_FILE=str(ready)) as fleet:
        worker = fleet.start_counted("uid", "w")
        until("it is ready", ready.exists)
        system.adopt("uid")
        system.project("uid", [1])
        until("it is drained", lambda: system.reports("uid")["w"]["state"] == "drained")
        assert not ready.exists()
        push(system, 1)
        time.sleep(1.5)
        assert worker.is_running()
        assert remaining(system) == 1
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.lines("start") == []


def test_the_original_example_runs_unedited(system: System, tmp_path: Path) -> None:
    import pickle

    environment = {
        "QWORKER_NAME": "example",
        "POD_SPEC_HASH": "abc",
        "HOSTNAME": "example-1",
        "PULLING_INTERVAL": "2",
    }
    with Fleet(tmp_path, system, QSCALER_ALLOW_PICKLE="1", QSCALER_QUEUE="work") as fleet:
        system.push("work", pickle.dumps({"name": "ada"}))
        worker = fleet.start_program(EXAMPLES / "original.py", environment)
        until("the task is done", lambda: remaining(system) == 0)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.log.read_text().count("Shutting down worker...") == 1


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
