"""What a worker has done so far, as its reports tell it."""

from __future__ import annotations

import os
import time

from qscaler.lifecycle import Machine
from qscaler.protocol import random_name
from qscaler.report import Durations, Report, State
from qscaler.task import Ended


class Tally:
    """Counts since the process started."""

    def __init__(self) -> None:
        self.boot = random_name()
        self.done = 0
        self.failed = 0
        self.late_acks = 0
        self._busy = 0.0
        self._durations = Durations()
        self._state: tuple[State, float] = (State.STARTING, time.monotonic())

    def add_task(self, seconds: float) -> None:
        """Counts the time that one task took, however it ended."""
        self._busy += seconds
        self._durations.add(int(seconds * 1000))

    def report(self, worker: str, life: Machine) -> Report:
        """What the worker says now."""
        now = time.monotonic()
        if self._state[0] is not life.state():
            self._state = (life.state(), now)
        return Report(
            worker=worker,
            boot=self.boot,
            state=self._state[0],
            state_ms=int((now - self._state[1]) * 1000),
            slots=life.slots,
            busy_slots=life.busy,
            done=self.done,
            failed=self.failed,
            late_acks=self.late_acks,
            busy_ms=int(self._busy * 1000),
            # A copy: it is written while tasks go on ending.
            durations=Durations(self._durations.counts),
            claim=life.claim,
            epoch=life.counts_in(),
            pid=os.getpid(),
        )

    def ended(self, claim: int | None) -> Ended:
        """How it all ended."""
        return Ended(claim, self.done, self.failed, self.late_acks)
