"""A control group of a cluster's own: what runs for it, pods included, is in there, and nothing else is."""

import contextlib
import os
import signal
import time
from pathlib import Path

SECONDS_TO_END = 30


class Group:
    """One name in every hierarchy of control groups: one of version 2, or one per controller of version 1."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folders = [hierarchy / name for hierarchy in hierarchies()]

    def claim(self) -> bool:
        """Makes it; false when another cluster has it."""
        try:
            self.folders[0].mkdir()
        except FileExistsError:
            return False
        for folder in self.folders:
            # A group with controlled groups below it holds no process itself.
            for made in (folder, folder / "system"):
                enable(made.parent)
                made.mkdir(exist_ok=True)
                inherit(made)
        return True

    def enter(self) -> None:
        """Moves this process, and what it will start, into it."""
        for folder in self.folders:
            (folder / "system" / "cgroup.procs").write_text("0")

    def processes(self) -> set[int]:
        lists = [it for folder in self.folders if folder.exists() for it in folder.rglob("cgroup.procs")]
        return {int(line) for it in lists for line in read(it).split()}

    def end(self) -> None:
        """Kills what is in it and removes it."""
        limit = time.monotonic() + SECONDS_TO_END
        # Again and again: a process may be starting others.
        while left := self.processes():
            if time.monotonic() > limit:
                raise TimeoutError(f"processes {sorted(left)} of {self.name} do not end")
            for process in left:
                kill(process)
            time.sleep(0.05)
        for folder in self.folders:
            for inner, _, _ in os.walk(folder, topdown=False):
                Path(inner).rmdir()


def hierarchies() -> list[Path]:
    """Those of version 1 first: where any is mounted, version 2 beside it controls nothing."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    found = [(mount[2], Path(mount[1])) for mount in mounts if mount[2] in ("cgroup", "cgroup2")]
    return [path for _, path in sorted(found)]


def enable(folder: Path) -> None:
    """Lets groups below a group of version 2 be controlled; version 1 always does."""
    control = folder / "cgroup.subtree_control"
    if control.exists():
        wanted = (folder / "cgroup.controllers").read_text().split()
        control.write_text(" ".join(f"+{controller}" for controller in wanted))


def inherit(folder: Path) -> None:
    """A new group of version 1 may use no processor and no memory until it is told which."""
    for setting in ("cpuset.cpus", "cpuset.mems"):
        # Version 2 inherits by itself, and has the same file in all groups but the first.
        if (folder.parent / "cgroup.clone_children").exists() and (folder / setting).exists():
            (folder / setting).write_text((folder.parent / setting).read_text())


def read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the group went in between
        return ""


def kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
