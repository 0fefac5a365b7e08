"""Starts workers by forking a process that has loaded everything already: twenty start in the time of one.

Reads a line for each, as JSON: the program, its environment, its folder, and the files for its output and
for its exit code. Answers with the process id.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import qscaler.queue.redis
import qscaler.queue.sqlite  # noqa: F401 (loaded for all)


def live(worker: dict[str, Any]) -> None:
    """One worker's process, from here to its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(worker["folder"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(worker["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(worker["environment"])
    code = 1
    try:
        runpy.run_path(worker["program"], run_name="__main__")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        Path(worker["exit"]).write_text(str(code))
        os._exit(code)


def main() -> None:
    # Children that have ended leave nothing behind.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            live(json.loads(line))
        print(pid, flush=True)


if __name__ == "__main__":
    main()
