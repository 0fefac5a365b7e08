"""Eight tasks at a time on one event loop. The engine says by its variables where the queue is."""

import asyncio
import logging
from typing import Any

from qscaler import Worker

worker = Worker(slots=8)


@worker.task
async def ask(question: dict[str, Any]) -> None:
    await asyncio.sleep(0.1)
    print("answered", question, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    worker.run()
