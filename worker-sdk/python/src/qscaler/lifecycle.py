"""The life of a worker: Starting -> Idle <-> Busy -> Draining -> Gone, as a pure machine.

The program around it fetches, claims and reports as the `Action`s say and tells the machine what happened
as inputs. The *gate* is the promise behind "no task after a claim": a worker asks to claim only when its
gate is closed, no fetch is under way and no task is held, and the gate opens again only when the claim
was lost.

It is the Rust machine of `worker-sdk/protocol`, transition by transition; the cases in
`testdata/protocol` hold both to the same behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Union

from qscaler.report import Answer, Opening, State


class Phase(Enum):
    """Where a worker is in its life."""

    #: Not yet reported; fetches nothing, because it may already have been released.
    STARTING = 1
    #: The gate is open.
    OPEN = 2
    #: The gate is closed: waits for fetches to end and, when an offer names it, for its tasks.
    CLOSED = 3
    CLOSED_BY_NAME = 4
    #: The claim is on its way; the gate is closed.
    CLAIMING = 5
    #: Takes nothing any more; finishes what it holds.
    LEAVING = 6
    #: Holds nothing; the user's hook runs.
    HOOK = 7
    #: Says that it is drained.
    REPORTING = 8
    #: Has said so, and ends or parks.
    GONE = 9


class Action(Enum):
    """What the program around the machine should do next."""

    #: End the fetches under way, as soon as that loses no task.
    STOP_FETCHING = "stopFetching"
    #: Ask the control path for an offer, and say how it ended by `Claimed`.
    CLAIM = "claim"
    #: Report at once: something has changed that the engine waits for.
    REPORT = "report"
    #: Give every task that is held back to its queue, exactly once, and stop working on it.
    GIVE_BACK = "giveBack"
    #: Run the user's shutdown hook.
    RUN_HOOK = "runHook"
    #: End the process, or park where it would be started again.
    LEAVE = "leave"


@dataclass(frozen=True)
class Answered:
    """The answer to a report."""

    answer: Answer


@dataclass(frozen=True)
class Claimed:
    """The answer to a claim: the offer that is now its own, or none."""

    offer: int | None


@dataclass(frozen=True)
class FetchStarted:
    """A fetch is under way. Only after `Machine.may_fetch`, or `Machine.may_fetch_with_ack`."""


@dataclass(frozen=True)
class FetchEnded:
    """A fetch has ended, with a task or without."""

    task: bool


@dataclass(frozen=True)
class TaskEnded:
    """A task that was held is acked, given back, or lost."""


@dataclass(frozen=True)
class Told:
    """SIGTERM, SIGINT, or the program's own wish to end."""


@dataclass(frozen=True)
class HookEnded:
    """The shutdown hook has run."""


@dataclass(frozen=True)
class Reported:
    """The last report has been stored, or there is nobody to store it."""


Input = Union[Answered, Claimed, FetchStarted, FetchEnded, TaskEnded, Told, HookEnded, Reported]

_CLOSED = (Phase.CLOSED, Phase.CLOSED_BY_NAME)
_LEAVING = (Phase.LEAVING, Phase.HOOK, Phase.REPORTING, Phase.GONE)
#: More is not told apart.
_TOLD_MAX = 255


class Machine:
    """One worker's life, which can work on `slots` tasks at a time, one at least. See the module."""

    def __init__(self, slots: int) -> None:
        self.slots = max(slots, 1)
        #: How many tasks it holds.
        self.busy = 0
        #: The offer that it has claimed.
        self.claim: int | None = None
        #: The path's epoch by the last answer: the one that a claim must name.
        self.epoch: str | None = None
        self._phase = Phase.STARTING
        self._fetching = 0
        self._opening = False
        self._told = 0
        self._take_along = False

    def may_fetch(self) -> bool:
        """Whether another fetch may be started now."""
        return self._phase is Phase.OPEN and self.busy + self._fetching < self.slots

    def may_fetch_with_ack(self) -> bool:
        """Whether another fetch may be started now together with the ack of a task that is held.

        Not by one that would claim when that task has ended.
        """
        would_claim = self._opening and self.busy == 1
        return self._phase is Phase.OPEN and self.busy + self._fetching <= self.slots and not would_claim

    def state(self) -> State:
        """The state to report."""
        if self._phase is Phase.STARTING:
            return State.STARTING
        if self._phase in (Phase.LEAVING, Phase.HOOK):
            return State.DRAINING
        if self._phase in (Phase.REPORTING, Phase.GONE):
            return State.DRAINED
        return State.BUSY if self.busy > 0 else State.IDLE

    def counts_in(self) -> str | None:
        """The epoch in which the engine can count on it, to report.

        None while a claim is on its way: it may have been taken in an epoch that is gone, and then the
        worker leaves and no path tells.
        """
        return None if self._phase is Phase.CLAIMING else self.epoch

    def is_leaving(self) -> bool:
        """Whether it takes no more tasks, for good."""
        return self._phase in _LEAVING

    def was_told(self) -> bool:
        """Whether it was told to end: then it does not park."""
        return self._told > 0

    def step(self, happened: Input) -> list[Action]:  # noqa: PLR0911 (a return for each kind)
        """Tells the machine what happened; returns what to do, in this order."""
        if isinstance(happened, Answered):
            return self._answered(happened.answer)
        if isinstance(happened, Claimed):
            return self._claimed(happened.offer)
        if isinstance(happened, FetchStarted):
            assert self.may_fetch() or self.may_fetch_with_ack(), "a fetch through a closed gate"
            self._fetching += 1
            return []
        if isinstance(happened, FetchEnded):
            self._fetching = max(self._fetching - 1, 0)
            self.busy += int(happened.task)
            return self._settle(happened.task)
        if isinstance(happened, TaskEnded):
            self.busy = max(self.busy - 1, 0)
            return self._settle(True)
        if isinstance(happened, Told):
            return self._tell()
        return self._end(happened)

    def _end(self, happened: HookEnded | Reported) -> list[Action]:
        if isinstance(happened, HookEnded) and self._phase is Phase.HOOK:
            self._phase = Phase.REPORTING
            return [Action.REPORT]
        if isinstance(happened, Reported) and self._phase is Phase.REPORTING:
            self._phase = Phase.GONE
            return [Action.LEAVE]
        return []

    def _answered(self, answer: Answer) -> list[Action]:
        is_new = self.epoch != answer.epoch
        self.epoch = answer.epoch
        if self.is_leaving():
            return []
        # A claim that the path holds is the worker's own, also when the answer to it was lost or the
        # process was started again since.
        if answer.claim is not None or answer.released:
            self.claim = answer.claim
            return self._leave()
        self._opening = answer.opening is not Opening.NONE
        actions = self._open_or_close(answer)
        # Until it has said that it knows the epoch nobody counts on it.
        return [*actions, Action.REPORT] if is_new else actions

    def _open_or_close(self, answer: Answer) -> list[Action]:
        phase = self._phase
        if answer.opening is Opening.NAMED and phase in (Phase.STARTING, Phase.OPEN):
            return self._close(Phase.CLOSED_BY_NAME)
        if answer.opening is Opening.ANY and (
            phase is Phase.STARTING or (phase is Phase.OPEN and self.busy == 0)
        ):
            return self._close(Phase.CLOSED)
        if answer.opening is Opening.NONE and phase in (Phase.STARTING, *_CLOSED):
            self._phase = Phase.OPEN
        return []

    def _claimed(self, offer: int | None) -> list[Action]:
        if offer is None:
            self._opening = False
            if self._phase is Phase.CLAIMING:
                self._phase = Phase.OPEN
            return []
        # Also while leaving: who was told to end takes an open offer along, so that a shrink and an
        # eviction do not add up.
        self.claim = offer
        return [Action.REPORT] if self.is_leaving() else self._leave()

    def _tell(self) -> list[Action]:
        self._told = min(self._told + 1, _TOLD_MAX)
        if self._told > 1:
            return [Action.GIVE_BACK] if self.busy > 0 else []
        if self.is_leaving():
            return []
        self._take_along = self._opening and self._phase is not Phase.CLAIMING
        return self._leave()

    def _close(self, phase: Phase) -> list[Action]:
        self._phase = phase
        actions = [Action.STOP_FETCHING] if self._fetching > 0 else []
        return actions + self._settle(False)

    def _leave(self) -> list[Action]:
        self._phase = Phase.LEAVING
        actions = [Action.REPORT]
        if self._fetching > 0:
            actions.append(Action.STOP_FETCHING)
        return actions + self._settle(False)

    def _settle(self, changed: bool) -> list[Action]:
        """Goes as far as what is held and under way allows. `changed` says that a task came or went."""
        if self._phase is Phase.CLOSED and self.busy > 0:
            # The fetch brought a task before it could be ended: no longer idle, so an idle worker may
            # have the offer.
            self._phase = Phase.OPEN
            return [Action.REPORT]
        if self._phase in _CLOSED and self.busy == 0 and self._fetching == 0:
            self._phase = Phase.CLAIMING
            return [Action.CLAIM]
        if self._phase is Phase.OPEN and self.busy == 0 and self._opening:
            return self._close(Phase.CLOSED)
        if self._phase is Phase.LEAVING and self._told > 1 and self.busy > 0:
            return [Action.GIVE_BACK]
        if self._phase is Phase.LEAVING and self._fetching == 0:
            return self._finish(changed)
        return [Action.REPORT] if changed else []

    def _finish(self, changed: bool) -> list[Action]:
        # Not before every fetch has ended: one that completes after a claim would break the promise of
        # the gate.
        actions = []
        if self._take_along:
            self._take_along = False
            actions.append(Action.CLAIM)
        if self.busy == 0:
            self._phase = Phase.HOOK
            actions.append(Action.RUN_HOOK)
        elif changed:
            actions.append(Action.REPORT)
        return actions
