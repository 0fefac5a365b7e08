"""The cases in `testdata/protocol`, which the SDK of every language passes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qscaler.lifecycle import (
    Answered,
    Claimed,
    FetchEnded,
    FetchStarted,
    HookEnded,
    Input,
    Machine,
    Reported,
    TaskEnded,
    Told,
)
from qscaler.report import Answer, Durations, Opening, Report, State

CASES = Path(__file__).parents[3] / "testdata" / "protocol"

PLAIN: dict[str, Input] = {
    "fetchStarted": FetchStarted(),
    "taskEnded": TaskEnded(),
    "told": Told(),
    "hookEnded": HookEnded(),
    "reported": Reported(),
}


def read(name: str) -> Any:
    return json.loads((CASES / name).read_text(encoding="utf-8"))


def parse_input(value: Any) -> Input:
    if isinstance(value, str):
        return PLAIN[value]
    ((kind, of),) = value.items()
    if kind == "answered":
        return Answered(Answer(of["epoch"], Opening(of["opening"]), of["claim"], of["released"]))
    if kind == "claimed":
        return Claimed(of)
    assert kind == "fetchEnded"
    return FetchEnded(of["task"])


@pytest.mark.parametrize("case", read("lifecycle.json") + read("walks.json"), ids=lambda case: case["name"])
def test_lives_go_as_they_are_written(case: Any) -> None:
    life = Machine(case["slots"])
    for place, step in enumerate(case["steps"]):
        actions = life.step(parse_input(step["input"]))
        seen = {
            "actions": [action.value for action in actions],
            "state": life.state().value,
            "busy": life.busy,
            "mayFetch": life.may_fetch(),
            "leaving": life.is_leaving(),
            "claim": life.claim,
            "countsIn": life.counts_in(),
        }
        assert seen == step["after"], f"step {place}: {step['input']}"


OPEN = Answered(Answer("epoch", Opening.NONE))
TASK = [FetchStarted(), FetchEnded(True)]


@pytest.mark.parametrize(
    ("slots", "steps", "may"),
    [
        (1, [OPEN, *TASK], True),
        # It would claim when its last task ends; not before.
        (1, [OPEN, *TASK, Answered(Answer("epoch", Opening.ANY))], False),
        (2, [OPEN, *TASK, *TASK, Answered(Answer("epoch", Opening.ANY))], True),
        # A gate that is closed, for whatever reason.
        (2, [OPEN, *TASK, *TASK, Answered(Answer("epoch", Opening.NAMED))], False),
        (1, [OPEN, *TASK, Told()], False),
        (1, [OPEN, *TASK, Answered(Answer("epoch", Opening.NONE, claim=1))], False),
        # One fetch is under way already.
        (1, [OPEN, *TASK, FetchStarted()], False),
        (2, [OPEN, *TASK, FetchStarted()], True),
    ],
)
def test_the_next_task_may_come_with_an_ack_only_through_an_open_gate(
    slots: int, steps: list[Input], may: bool
) -> None:
    life = Machine(slots)
    for step in steps:
        life.step(step)
    assert life.may_fetch_with_ack() is may


def test_durations_fall_into_their_buckets() -> None:
    for case in read("durations.json"):
        assert Durations.bucket(case["milliseconds"]) == case["bucket"], case


def test_reports_keep_their_shape() -> None:
    durations = Durations()
    for milliseconds in (3, 3, 1200, 90_000):
        durations.add(milliseconds)
    full = Report(
        worker="worker",
        boot="boot",
        state=State.BUSY,
        state_ms=250,
        slots=4,
        busy_slots=2,
        done=3,
        failed=1,
        late_acks=1,
        busy_ms=91_206,
        durations=durations,
        claim=7,
        epoch="epoch",
        pid=4321,
    )
    empty = replace(full, state=State.STARTING, durations=Durations(), claim=None, epoch=None, pid=None)
    assert {"full": json.loads(full.to_json()), "empty": json.loads(empty.to_json())} == read("report.json")
