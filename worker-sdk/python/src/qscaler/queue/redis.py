"""Tasks in Redis lists, and the control path in Redis.

A task is moved, never popped: from the queue to a list of the worker's own, which it keeps by renewing a
lease. So a task is on the server in every moment, and when its worker gives no sign of life others put it
back.

A worker has two such lists. A task that is taken along with an ack comes to the other one: should the
answer be lost, each list alone says what became of its half, also when both tasks are the same bytes.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable

from qscaler.errors import QueueError
from qscaler.protocol import PathKeys, QueueKeys
from qscaler.queue import Queue, Stop, identity_or_nobody
from qscaler.queue.redis_server import ANSWER_MAX, Line, Script, Server
from qscaler.queue.redis_watch import Watch
from qscaler.report import Answer, Opening, Report
from qscaler.settings import Settings
from qscaler.task import Lease, Leased, Task

#: A wait at the server that was to end is asked to do so again after this many seconds.
UNBLOCK_EVERY = 0.05

ACK = Script("ack")
ATTEMPTS = Script("attempts")
BURY = Script("bury")
CLAIM = Script("server", "opening", "claim")
HOLD = Script("hold")
LEAVE = Script("leave")
REAP = Script("reap")
REPORT = Script("server", "opening", "report")
RETURN = Script("return")
TAKE = Script("take")


@dataclass(frozen=True)
class Held:
    """A task that this worker holds, and in which of its lists."""

    keys: QueueKeys
    holder: str
    payload: bytes

    def processing(self) -> str:
        """The list."""
        return self.keys.processing + self.holder


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
        # Who holds the tasks in the one list, and in the other.
        self._holders = (identity.worker, f"{identity.worker}+")
        self._watch: Watch | None = None
        #: The connection by which tasks come.
        self._line: Line | None = None
        #: What this worker holds, by token.
        self._held: dict[str, Held] = {}
        self._tokens = 0
        self._lock = threading.Lock()
        self._held_since: dict[str, float] = {}
        # Until then there may be a task in this worker's lists that it does not know of.
        self._doubt_until: float | None = None

    def open(self) -> None:
        """See `Queue`."""
        self._server.refuse_eviction()
        self._server.ask("PING")

    def fetch(self, wait: float, stop: Stop) -> Leased | None:
        """See `Queue`."""
        if stop.is_set():
            return None
        try:
            if self._doubt_until is not None:
                leased = self._recover()
                if leased is not None:
                    return leased
            if len(self._queues) == 1:
                return self._next_of_one(wait, stop)
            return self._next_of_many(wait, stop)
        except QueueError:
            self._begin_to_doubt()
            raise

    def _begin_to_doubt(self) -> None:
        """An answer was lost: what was asked may have been done, or be done only later."""
        self._doubt_until = math.inf
        # A server that has lost its data has lost this worker's hold, too.
        self._held_since.clear()
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._watch is not None:
            self._watch.tell()

    def _hold_before(self, holder: str) -> None:
        """A worker holds before it fetches: what comes to its list is never without a holder."""
        since = self._held_since.get(holder)
        if since is None or time.monotonic() - since > self._settings.lease / 3:
            begin = time.monotonic()
            for keys in self._queues:
                self._hold(keys, holder)
            self._held_since[holder] = begin

    def _hold(self, keys: QueueKeys, holder: str) -> bool:
        """Renews the hold on one queue. False: it had been given up."""
        kept = self._server.run(HOLD, [keys.leases], holder, _milliseconds(self._settings.lease))
        return bool(kept == 1)

    def _recover(self) -> Leased | None:
        """A task that came to this worker's lists by an answer that was lost."""
        for holder in self._holders:
            self._hold_before(holder)
            for keys in self._queues:
                found = self._unknown(keys, holder)
                if found is not None:
                    return self._begin(found)
        if self._doubt_until == math.inf:
            # The server may take as long as that to see that the connection is gone.
            self._doubt_until = time.monotonic() + self._settings.fetch_wait_max() + ANSWER_MAX
        elif self._doubt_until is not None and time.monotonic() > self._doubt_until:
            self._doubt_until = None
        return None

    def _unknown(self, keys: QueueKeys, holder: str) -> Held | None:
        # First what is known: a task that ends meanwhile is not taken for an unknown one.
        with self._lock:
            held = [it.payload for it in self._held.values() if it.keys is keys and it.holder == holder]
        for payload in self._server.ask("LRANGE", keys.processing + holder, 0, -1):
            if payload not in held:
                return Held(keys, holder, payload)
            held.remove(payload)
        return None

    def _begin(self, held: Held) -> Leased:
        """A task that was just moved to a list of this worker."""
        failed, digest = self._connect().run(ATTEMPTS, [held.keys.attempts], held.payload)
        return self._lease(held, int(failed), digest.decode())

    def _lease(self, held: Held, failed: int, name: str) -> Leased:
        with self._lock:
            self._tokens += 1
            token = f"{self._worker}#{self._tokens}"
            self._held[token] = held
        queue = held.keys.queue
        return Leased(Task(name, queue, held.payload, failed + 1), Lease(queue, name, token))

    def _connect(self) -> Line:
        if self._line is None:
            self._line = self._server.line(self._settings.fetch_wait_max())
        return self._line

    def _next_of_one(self, wait: float, stop: Stop) -> Leased | None:
        """Waits for a task and moves it in the same moment."""
        keys, holder = self._queues[0], self._holders[0]
        self._hold_before(holder)
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
        move = ("BLMOVE", keys.queue, keys.processing + holder, "RIGHT", "LEFT", max(wait, 0.001))
        try:
            with stop.calling(lambda: threading.Thread(target=unblock, daemon=True).start()):
                payload = line.ask(*move)
        finally:
            over.set()
        return None if payload is None else self._begin(Held(keys, holder, payload))

    def _next_of_many(self, wait: float, stop: Stop) -> Leased | None:
        """Moves a task of the first queue that has one; waits where there is none."""
        if self._watch is None:
            self._watch = Watch(self._server, [keys.queue for keys in self._queues])
        end = time.monotonic() + wait
        while not stop.is_set():
            if self._watch.take_news():
                self._hold_before(self._holders[0])
                taken = self._connect().run(TAKE, self._take_from(self._holders[0]))
                leased = self._taken(self._holders[0], taken)
                if leased is not None:
                    return leased
            if time.monotonic() >= end:
                break
            self._watch.wait(end - time.monotonic(), stop)
        return None

    def _take_from(self, holder: str) -> list[str]:
        return [key for keys in self._queues for key in (keys.queue, keys.processing + holder, keys.attempts)]

    def _taken(self, holder: str, taken: Any) -> Leased | None:
        if taken is None:
            return None
        if self._watch is not None:
            self._watch.tell()
        place, payload, failed, digest = taken
        return self._lease(Held(self._queues[place], holder, payload), int(failed), digest.decode())

    def ack_and_take(self, lease: Lease) -> tuple[bool, Leased | None]:
        """See `Queue`."""
        with self._lock:
            held = self._held.get(lease.token)
        if held is None or self._doubt_until is not None:
            return self.ack(lease), None
        first, second = self._holders
        other = second if held.holder == first else first
        try:
            self._hold_before(other)
            if self._watch is not None:
                self._watch.take_news()
            kept, taken = self._connect().run_all(
                (ACK, [held.processing(), held.keys.counters, held.keys.attempts], [held.payload]),
                (TAKE, self._take_from(other), []),
            )
        except QueueError:
            self._begin_to_doubt()
            raise
        with self._lock:
            self._held.pop(lease.token, None)
        return bool(kept == 1), self._taken(other, taken)

    def _on_held(self, script: Script, lease: Lease, keys: Sequence[str], *more: Any) -> bool:
        """Runs a script on a task that is held; its result is whether it still was."""
        with self._lock:
            held = self._held.get(lease.token)
        if held is None:
            return False
        kept = self._server.run(script, [held.processing(), *keys], held.payload, *more)
        with self._lock:
            self._held.pop(lease.token, None)
        return bool(kept == 1)

    def renew(self, lease: Lease) -> bool:
        """See `Queue`."""
        with self._lock:
            held = self._held.get(lease.token)
        # One that is acknowledged in this moment was kept.
        return held is None or self._hold(held.keys, held.holder)

    def ack(self, lease: Lease) -> bool:
        """See `Queue`."""
        keys = self._keys[lease.queue]
        return self._on_held(ACK, lease, [keys.counters, keys.attempts])

    def give_back(self, lease: Lease, delay: float, counts: bool) -> bool:
        """See `Queue`."""
        keys = self._keys[lease.queue]
        others = [keys.queue, keys.attempts, keys.delayed, keys.counters]
        return self._on_held(RETURN, lease, others, _milliseconds(delay), int(counts))

    def bury(self, lease: Lease, error: str) -> bool:
        """See `Queue`."""
        keys = self._keys[lease.queue]
        why = json.dumps({"error": error, "worker": self._worker})
        return self._on_held(BURY, lease, [keys.dead, keys.errors, keys.counters, keys.attempts], why)

    def reap(self) -> int:
        """See `Queue`."""
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
            ]
            back += int(self._server.run(REAP, names, keys.processing, self._settings.attempts_max))
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
        for holder in self._holders:
            for keys in self._queues:
                self._server.run(LEAVE, [keys.leases, keys.processing + holder], holder)

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
