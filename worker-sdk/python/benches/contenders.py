"""The programs that `throughput.py` compares: each takes the same no-op tasks, written as its users would.

    python contenders.py NAME fill|work

The environment has the server's `URL` and how many `TASKS` there are. `work` prints how many seconds lie
between the first task and the last, and goes on until it is ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import count
from typing import Any

import redis

URL = os.environ["URL"]
TASKS = int(os.environ["TASKS"])
QUEUE = "throughput"
PAYLOAD = {"to": "ada@example.org"}

_numbers = count(1)
_begin = time.perf_counter()


def work(_payload: Any) -> None:
    """The task: nothing but a look at the clock at the first and the last."""
    global _begin  # noqa: PLW0603 (the same place for threads, and for what imports this)
    number = next(_numbers)
    if number == 1:
        _begin = time.perf_counter()
    if number == TASKS:
        # Not by `print`: Celery keeps that for its log.
        os.write(1, f"\nseconds {time.perf_counter() - _begin}\n".encode())


def fill_list() -> None:
    """What any producer does, for QScaler and for a bare loop."""
    client = redis.Redis.from_url(URL)
    for _ in range(0, TASKS, 1_000):
        client.lpush(QUEUE, *[json.dumps(PAYLOAD)] * 1_000)


def run_qscaler(slots: int) -> None:
    """QScaler's worker, each task acknowledged after it is done."""
    from qscaler import Worker

    worker = Worker(url=URL, queue=QUEUE, slots=slots)
    worker.task(work)
    worker.run()


def run_bare() -> None:
    """The least that one can write, which loses a task whenever it is killed."""
    client = redis.Redis.from_url(URL)
    while True:
        popped: Any = client.brpop([QUEUE])
        work(json.loads(popped[1]))


def celery_app() -> tuple[Any, Any]:
    """Celery without results, and without what only looks at other workers."""
    from celery import Celery

    app = Celery("throughput", broker=URL)
    app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=64)
    return app, app.task(name="work")(work)


def fill_celery() -> None:
    """One connection for all tasks."""
    app, task = celery_app()
    with app.connection() as connection, app.amqp.Producer(connection) as producer:
        for _ in range(TASKS):
            task.apply_async((PAYLOAD,), producer=producer)


def run_celery(pool: str) -> None:
    """One task at a time, in the worker itself or in a process of its own."""
    app, _ = celery_app()
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    app.worker_main(["worker", "--pool", pool, "--concurrency", "1", *quiet])


def fill_rq() -> None:
    """Jobs whose results nobody keeps."""
    from rq import Queue

    queue = Queue(QUEUE, connection=redis.Redis.from_url(URL))
    queue.enqueue_many([Queue.prepare_data(work, (PAYLOAD,), result_ttl=0) for _ in range(TASKS)])


def run_rq() -> None:
    """The worker that forks for no task."""
    from rq import SimpleWorker

    connection = redis.Redis.from_url(URL)
    SimpleWorker([QUEUE], connection=connection).work(burst=True, logging_level="ERROR")


def main() -> None:
    """Fills the queue, or works on it."""
    name, verb = sys.argv[1:]
    kind, _, variant = name.partition("-")
    if verb == "fill":
        {"celery": fill_celery, "rq": fill_rq}.get(kind, fill_list)()
    elif kind == "qscaler":
        run_qscaler(int(variant))
    elif kind == "celery":
        run_celery(variant)
    else:
        {"rq": run_rq, "bare": run_bare}[kind]()


if __name__ == "__main__":
    # RQ finds the task by the name of this file, so it is that module's for everybody.
    import contenders

    contenders.main()
