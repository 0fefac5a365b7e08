"""The programs that `throughput.py` compares: each takes no-op tasks with what its users would write.

    python contenders.py NAME REDIS_PORT TASKS fill|work

`work` says how many seconds there were between the first task and the last, then ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from itertools import count
from typing import Any, Callable

import redis

NAME, PORT, TASKS, VERB = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
URL = f"redis://127.0.0.1:{PORT}"
QUEUE = "throughput"
_number, _begin = count(1), [0.0]


def work(_task: Any = None) -> None:
    """The task: nothing but its place in the row."""
    number = next(_number)
    if number == 1:
        _begin[0] = time.perf_counter()
    if number == TASKS:
        os.write(1, f"{time.perf_counter() - _begin[0]}\n".encode())


def fill_list() -> None:
    """What any producer does for QScaler and for a bare loop."""
    payload = json.dumps({"to": "ada@example.org"})
    with redis.Redis(port=PORT) as client:
        for begin in range(0, TASKS, 1_000):
            client.lpush(QUEUE, *[payload] * min(1_000, TASKS - begin))


def run_qscaler(slots: int) -> None:
    from qscaler import Worker

    worker = Worker(url=URL, queue=QUEUE, slots=slots)
    worker.task(work)
    worker.run()


def run_bare() -> None:
    with redis.Redis(port=PORT) as client:
        while True:
            _, payload = client.brpop([QUEUE])  # type: ignore[misc]
            work(json.loads(payload))


def celery_app() -> tuple[Any, Any]:
    from celery import Celery

    app = Celery("throughput", broker=URL)
    app.conf.update(task_ignore_result=True, result_backend=None, worker_prefetch_multiplier=PREFETCH)
    return app, app.task(name="work")(work)


PREFETCH = int(os.environ.get("PREFETCH", "4"))


def run_celery(pool: str) -> None:
    app, _ = celery_app()
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    app.worker_main(["worker", "--pool", pool, "--concurrency", "1", *quiet])


def fill_celery() -> None:
    app, task = celery_app()
    with app.connection() as connection:
        for _ in range(TASKS):
            task.apply_async(({"to": "ada@example.org"},), connection=connection)


if __name__ == "__main__":
    if NAME.startswith("celery"):
        fill_celery() if VERB == "fill" else run_celery(NAME.split("-")[1])
    elif NAME.startswith("qscaler"):
        fill_list() if VERB == "fill" else run_qscaler(int(NAME.split("-")[1]))
    else:
        fill_list() if VERB == "fill" else run_bare()
