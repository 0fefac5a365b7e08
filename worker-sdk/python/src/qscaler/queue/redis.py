"""Tasks in Redis lists, and the control path in Redis.

A task is moved, never popped: from the queue to a list of the worker's own, which it keeps by renewing a
lease. So a task is on the server in every moment, and when its worker gives no sign of life others put it
back.

A task that ends and the next one that is taken in its place are one step, a turn. Each turn of a slot has a
number: should its answer be lost, the server says by the number whether it was done, also when both tasks are
the same bytes.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Callable

from qscaler.errors import QueueError
from qscaler.protocol import PathKeys, QueueKeys, random_name
from qscaler.queue import Queue, Stop, identity_or_nobody
from qscaler.queue.redis_server import ANSWER_MAX, Line, Script, Server
from qscaler.queue.redis_watch import Watch
from qscaler.queue.sharing import Sharing
from qscaler.report import Answer, Opening, Report
from qscaler.settings import Settings
from qscaler.task import Lease, Leased, Task

#: A wait at the server that was to end is asked to do so again after this many seconds.
UNBLOCK_EVERY = 0.05
#: What a worker held when it ended without a word is taken again after so many seconds, or after its lease,
#: when it starts again under its name.
AFTER_ITS_WORKER = 5.0

ATTEMPTS = Script("attempts")
BURY = Script("bury")
CLAIM = Script("server", "opening", "claim")
FENCE = Script("next", "fence")
HOLD = Script("hold")
LEAVE = Script("leave")
REAP = Script("interrupted", "reap")
REPORT = Script("server", "opening", "report")
RETURN = Script("interrupted", "return")
TAKE = Script("next", "take")
TURN = Script("next", "turn")

#: Takes that are not turns of a slot are numbered under this name.
TAKES = "take"


@dataclass
class Held:
    """A task that this worker holds."""

    keys: QueueKeys
    payload: bytes
    #: The key of its attempts, when it has failed before.
    failed: str
    #: The place among the worker's slots that it takes.
    slot: int
    #: The turn that was to end it, when its answer was lost.
    lost_turn: int | None = None


class RedisQueue(Queue):
    """One worker's view of a server."""

    #: Offers make themselves heard; this often is enough for one that was not.
    look_every = 5.0

    def __init__(self, settings: Settings) -> None:
        identity = identity_or_nobody(settings)
        self._settings = settings
        self._server = Server(settings)
        self._queues = [QueueKeys(queue) for queue in settings.queues]
        self._keys = {keys.queue: keys for keys in self._queues}
        self._path = PathKeys(identity.workload)
        self._worker = identity.worker
        # A worker that starts again under its name counts its turns from the beginning: a key for each life.
        self._turns = f"{self._queues[0].turns if self._queues else ''}{self._worker}:{random_name()}"
        self._watch: Watch | None = None
        #: The connection by which tasks come.
        self._line: Line | None = None
        #: What this worker holds, by token.
        self._held: dict[str, Held] = {}
        # Counts leases and turns.
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._held_since: float | None = None
        #: What an earlier life of this worker held is not in its list any more.
        self._has_begun = False
        # There may be a task in this worker's lists that it does not know of: an answer was lost, or the
        # worker has started again.
        self._is_unsure = True
        #: Who ends a task shares it; who looks for a task that this worker does not know of has it alone.
        self._ending = Sharing()
        #: A take whose answer was lost.
        self._lost_take: int | None = None
        #: A connection that waited for a task when its answer was lost, and until when the server may go on
        #: waiting for it, where this user may not end that.
        self._abandoned: Line | None = None
        self._abandoned_until = math.inf

    def open(self) -> None:
        """See `Queue`."""
        self._server.refuse_eviction()
        self._server.ask("PING")

    def fetch(self, wait: float, stop: Stop) -> Leased | None:
        """See `Queue`."""
        if stop.is_set():
            return None
        try:
            self._begin_life()
            self._hold_before_fetch()
            leased = self._recover() if self._is_unsure else None
            if leased is not None:
                return leased
            if len(self._queues) == 1:
                return self._next_of_one(wait, stop)
            return self._next_of_many(wait, stop)
        except QueueError:
            self._lost_answer()
            raise

    def _begin_life(self) -> None:
        """A worker that starts again under its name does not go on with what it held.

        Each of these attempts has failed, and a task that takes its worker down must not be tried for ever.
        """
        if not self._has_begun:
            self._reap(its_own=True)
            self._has_begun = True

    def _lost_answer(self) -> None:
        """What was asked may have been done, or be done only later."""
        self._is_unsure = True
        # A server that has lost its data has lost this worker's hold, too.
        self._held_since = None
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._watch is not None:
            self._watch.tell()

    def _hold_before_fetch(self) -> None:
        """A worker holds before it fetches: what comes to its list is never without a holder."""
        begin = time.monotonic()
        if self._held_since is None or begin - self._held_since > self._settings.lease / 3:
            self._hold(self._queues)
            self._held_since = begin

    def _hold(self, queues: Sequence[QueueKeys]) -> bool:
        """Renews the hold on queues. False: one had been given up."""
        leases = [keys.leases for keys in queues]
        return bool(self._server.run(HOLD, leases, self._worker, _milliseconds(self._settings.lease)) == 1)

    def _recover(self) -> Leased | None:
        """A task that is in this worker's lists and that it does not know of."""
        # No task ends meanwhile: it would be taken for an unknown one, or hide one that looks like it.
        with self._ending.alone():
            # First the server must not move a task any more for what was asked.
            is_over = self._give_up()
            for place, keys in enumerate(self._queues):
                with self._lock:
                    held = [it.payload for it in self._held.values() if it.keys is keys]
                for payload in self._server.ask("LRANGE", self._processing(keys), 0, -1):
                    if payload not in held:
                        return self._begin(place, payload)
                    held.remove(payload)
            self._is_unsure = not is_over
        return None

    def _give_up(self) -> bool:
        """Sees to it that the server moves no task any more for what was asked. False: it still may."""
        if self._lost_take is not None:
            self._fence(TAKES, self._lost_take)
            self._lost_take = None
        if self._abandoned is not None:
            if self._server.kill(self._abandoned) or time.monotonic() > self._abandoned_until:
                self._abandoned = None
            elif self._abandoned_until == math.inf:
                # It sees by itself that the connection is gone, or that the wait is over.
                self._abandoned_until = time.monotonic() + self._settings.fetch_wait_max() + ANSWER_MAX
        return self._abandoned is None

    def _fence(self, slot: int | str, turn: int) -> bool:
        """Gives up a turn whose answer was lost. Whether it was done; if not, it never will be."""
        return bool(self._server.run(FENCE, [self._turns], slot, turn) == 1)

    def _processing(self, keys: QueueKeys) -> str:
        return keys.processing + self._worker

    def _begin(self, place: int, payload: bytes) -> Leased:
        """A task of which the server has given no more than its payload."""
        failed, digest = self._connect().run(ATTEMPTS, [self._queues[place].attempts], payload)
        return self._lease(place, payload, failed, digest)

    def _lease(self, place: int, payload: bytes, failed: bytes, digest: bytes) -> Leased:
        keys, attempts, name = self._queues[place], int(failed), digest.decode()
        with self._lock:
            token = f"{self._worker}#{next(self._numbers)}"
            taken = {it.slot for it in self._held.values()}
            slot = next(slot for slot in count() if slot not in taken)
            self._held[token] = Held(keys, payload, name if attempts else "", slot)
        return Leased(Task(name, keys.queue, payload, attempts + 1), Lease(keys.queue, name, token))

    def _connect(self) -> Line:
        if self._line is None:
            self._line = self._server.line(self._settings.fetch_wait_max())
        return self._line

    def _next_of_one(self, wait: float, stop: Stop) -> Leased | None:
        """Waits for a task and moves it in the same moment."""
        keys = self._queues[0]
        line = self._connect()
        over = threading.Event()

        def unblock() -> None:
            # The server ends the waiting; should a task have come in the same moment, the answer has it.
            # Again and again, because the first may arrive there before the waiting begins.
            while not over.is_set():
                with suppress(QueueError):
                    self._server.unblock(line.number)
                over.wait(UNBLOCK_EVERY)

        # The server takes 0 for "without end".
        move = ("BLMOVE", keys.queue, self._processing(keys), "RIGHT", "LEFT", max(wait, 0.001))
        try:
            with stop.calling(lambda: threading.Thread(target=unblock, daemon=True).start()):
                payload = line.ask(*move)
        except QueueError:
            self._abandoned, self._abandoned_until = line, math.inf
            raise
        finally:
            over.set()
        return None if payload is None else self._begin(0, payload)

    def _next_of_many(self, wait: float, stop: Stop) -> Leased | None:
        """Moves a task of the first queue that has one; waits where there is none."""
        if self._watch is None:
            self._watch = Watch(self._server, [keys.queue for keys in self._queues])
        end = time.monotonic() + wait
        while not stop.is_set():
            if self._watch.take_news():
                leased = self._take()
                if leased is not None:
                    return leased
            if time.monotonic() >= end:
                break
            self._watch.wait(end - time.monotonic(), stop)
        return None

    def _take(self) -> Leased | None:
        """Takes from the first queue that has a task."""
        number = next(self._numbers)
        try:
            taken = self._connect().run(TAKE, [self._turns, *self._take_from()], TAKES, number)
        except QueueError:
            self._lost_take = number
            raise
        return self._taken(taken)

    def _take_from(self) -> list[str]:
        return [key for keys in self._queues for key in (keys.queue, self._processing(keys), keys.attempts)]

    def _taken(self, taken: Any) -> Leased | None:
        if taken is None:
            return None
        if self._watch is not None:
            self._watch.tell()
        return self._lease(*taken)

    def ack_and_take(self, lease: Lease) -> tuple[bool, Leased | None]:
        """See `Queue`."""
        held = self._held.get(lease.token)
        # A task that this worker does not know of comes first, and whether a lost turn has ended this one.
        if held is None or held.lost_turn is not None or self._is_unsure:
            return self.ack(lease), None
        try:
            self._hold_before_fetch()
            line = self._connect()
            if self._watch is not None:
                self._watch.take_news()
            held.lost_turn = next(self._numbers)
            kept, taken = line.run(TURN, [*self._to_end(held), *self._take_from()], *self._turn(held))
        except QueueError:
            self._lost_answer()
            raise
        with self._lock:
            self._held.pop(lease.token, None)
        return bool(kept == 1), self._taken(taken)

    def _on_held(self, script: Script, lease: Lease, keys: Sequence[str], *more: Any) -> bool:
        """Runs a script on a task that is held; its result is whether it still was."""
        return self._end(
            lease,
            lambda held: self._server.run(script, [self._processing(held.keys), *keys], held.payload, *more),
        )

    def _end(self, lease: Lease, ask: Callable[[Held], Any]) -> bool:
        """Ends the hold on a task; the answer is 1 when there still was one."""
        with self._ending.shared():
            held = self._held.get(lease.token)
            if held is None:
                return False
            was_turned = self._was_turned(held)
            kept = was_turned or ask(held) == 1
            with self._lock:
                self._held.pop(lease.token, None)
            if was_turned:
                # Until now it may have hidden one that looks like it.
                self._is_unsure = True
        return bool(kept)

    def _was_turned(self, held: Held) -> bool:
        """Whether a turn whose answer was lost has ended it. If not, it never will.

        One that was done has ended it, and the task that came in its place may look like it.
        """
        return held.lost_turn is not None and self._fence(held.slot, held.lost_turn)

    def renew(self, lease: Lease) -> bool:
        """See `Queue`."""
        with self._lock:
            held = self._held.get(lease.token)
        # One that is acknowledged in this moment was kept.
        return held is None or self._hold([held.keys])

    def ack(self, lease: Lease) -> bool:
        """See `Queue`."""
        # By a turn that takes no other: a repeated acknowledgement of a task that is ended would end one that
        # looks like it.
        return self._end(lease, self._end_by_turn)

    def _end_by_turn(self, held: Held) -> Any:
        held.lost_turn = next(self._numbers)
        return self._server.run(TURN, self._to_end(held), *self._turn(held))[0]

    def _to_end(self, held: Held) -> list[str]:
        """The keys of a turn without those of the next task."""
        return [self._turns, self._processing(held.keys), held.keys.counters, held.keys.attempts]

    def _turn(self, held: Held) -> tuple[Any, ...]:
        return held.slot, held.lost_turn, held.payload, held.failed

    def give_back(self, lease: Lease, delay: float, counts: bool) -> bool:
        """See `Queue`."""
        keys = self._keys[lease.queue]
        others = [keys.queue, keys.attempts, keys.delayed, keys.counters, keys.interrupted]
        return self._on_held(RETURN, lease, others, _milliseconds(delay), int(counts), self._worker)

    def bury(self, lease: Lease, error: str) -> bool:
        """See `Queue`."""
        keys = self._keys[lease.queue]
        why = json.dumps({"error": error, "worker": self._worker})
        return self._on_held(BURY, lease, [keys.dead, keys.errors, keys.counters, keys.attempts], why)

    def reap(self) -> int:
        """See `Queue`."""
        return self._reap(its_own=False)

    def _reap(self, its_own: bool) -> int:
        """Takes tasks from holders that have given no sign of life, and its own, those of the life before."""
        back = 0
        for keys in self._queues:
            names = [
                keys.leases,
                keys.queue,
                keys.attempts,
                keys.delayed,
                keys.counters,
                keys.dead,
                keys.errors,
                keys.interrupted,
            ]
            limits = (keys.processing, self._settings.attempts_max)
            pause = int(min(self._settings.lease, AFTER_ITS_WORKER) * 1000)
            own = (self._worker, pause) if its_own else ()
            back += int(self._server.run(REAP, names, *limits, *own))
        return back

    def report(self, report: Report) -> Answer:
        """See `Queue`."""
        names = [self._path.offers, self._path.reports, self._path.released]
        answer = self._server.run(REPORT, names, self._worker, report.to_json())
        epoch, named, anybody, claim, released = answer
        opening = Opening.NAMED if named == 1 else Opening.ANY if anybody == 1 else Opening.NONE
        return Answer(epoch.decode() or None, opening, _offer(claim), released == 1)

    def claim(self, epoch: str) -> int | None:
        """See `Queue`."""
        return _offer(self._server.run(CLAIM, [self._path.offers], epoch, self._worker))

    def listen(self, told: Callable[[], None], over: threading.Event) -> None:
        """See `Queue`."""
        self._server.listen(self._path.offers, told, over)

    def leave(self) -> None:
        """See `Queue`."""
        # No task may come any more to a list that has no holder. Where one may, the lease ends by itself:
        # until then, and for a while after, others look into the list.
        if not self._give_up():
            return
        for keys in self._queues:
            self._server.run(LEAVE, [keys.leases, self._processing(keys), self._turns], self._worker)

    def close(self) -> None:
        """See `Queue`."""
        if self._watch is not None:
            self._watch.close()
        if self._line is not None:
            self._line.close()
        self._server.close()


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _offer(number: int) -> int | None:
    return number if number >= 0 else None
