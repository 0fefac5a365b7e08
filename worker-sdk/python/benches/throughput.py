"""How many no-op tasks a second: QScaler beside what a user would pick instead, with one Redis.

    pip install -e '.[bench]' && python benches/throughput.py [TASKS]

Starts a redis-server of its own. The contenders take turns in several rounds, each on an empty server, and
the median of each counts: a machine is seldom equally fast all the time. Ends with 1 when a worker of
QScaler is not three times as fast as Celery.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import redis

HERE = Path(__file__).parent
ROUNDS = 3
TIMES_CELERY = 3.0
#: RQ takes so long for a task that a tenth of them says as much.
SHARE = {"rq": 0.1}
NAMES = {
    "qscaler-1": "QScaler, 1 slot",
    "qscaler-8": "QScaler, 8 slots",
    "celery-solo": "Celery, solo",
    "celery-prefork": "Celery, prefork, 1 process",
    "rq": "RQ, SimpleWorker",
    "bare": "bare BRPOP loop (loses tasks)",
}


def start_server(folder: str) -> tuple[subprocess.Popen[bytes], redis.Redis, str]:
    """A server on a free port of this machine, and a client of it."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        port = it.getsockname()[1]
    line = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    server = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    for _ in range(100):
        with suppress(redis.ConnectionError):
            client.ping()
            break
        time.sleep(0.05)
    return server, client, f"redis://127.0.0.1:{port}"


def measure(name: str, url: str, tasks: int) -> float:
    """Tasks a second."""
    line = [sys.executable, str(HERE / "contenders.py"), name]
    environment = {**os.environ, "URL": url, "TASKS": str(tasks)}
    subprocess.run([*line, "fill"], env=environment, check=True)
    process = subprocess.Popen(
        [*line, "work"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Celery's children end with it.
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for text in process.stdout:
            if text.startswith("seconds "):
                return tasks / float(text.split()[1])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    raise SystemExit(f"{name} ended early: try `{' '.join(line)} work`")


def main() -> int:
    """Measures, prints, judges."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    speeds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        server, client, url = start_server(folder)
        try:
            for _ in range(ROUNDS):
                for name in NAMES:
                    client.flushall()
                    speeds[name].append(measure(name, url, int(tasks * SHARE.get(name, 1))))
        finally:
            server.kill()
            server.wait()
    medians = {name: statistics.median(them) for name, them in speeds.items()}
    celery = max(medians["celery-solo"], medians["celery-prefork"])
    print(f"{tasks} tasks, medians of {ROUNDS} rounds")
    print(f"{'':32}{'tasks/s':>10}{'x Celery':>10}   rounds")
    for name, median in medians.items():
        rounds = ", ".join(f"{speed:.0f}" for speed in speeds[name])
        print(f"{NAMES[name]:32}{median:>10.0f}{median / celery:>10.1f}   {rounds}")
    return int(min(medians["qscaler-1"], medians["qscaler-8"]) < TIMES_CELERY * celery)


if __name__ == "__main__":
    sys.exit(main())
