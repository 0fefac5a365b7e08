"""A worker as it was written for the original SDK: the same import, decorators and environment.

Producers of the original send pickles: set QSCALER_ALLOW_PICKLE=1 if all of them are trusted.
"""

import logging
import time
from typing import Any

from qscaler.worker import Worker

worker = Worker()


@worker.shutdown
def shutdown() -> None:
    print("Shutting down worker...")


@worker.task
def example(task: dict[str, Any]) -> None:
    print("working on", task)
    time.sleep(0.5)


if __name__ == "__main__":
    logging.basicConfig()
    worker.run()
