"""Sends mails that producers push as JSON: LPUSH mail '{"to": "ada@example.org"}'."""

import logging
import time
from typing import Any

from qscaler import Worker, current_task

worker = Worker(url="redis://127.0.0.1:6379", queue="mail")


@worker.task
def send(mail: dict[str, Any]) -> None:
    task = current_task()
    time.sleep(0.1)
    # A task may run twice: what it does should bear that. Its id and attempt tell.
    print(f"sent to {mail['to']}, task {task.id}, attempt {task.attempt}", flush=True)


@worker.shutdown
def close() -> None:
    print("nothing is left half done", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    worker.run()
