"""How a cluster ends: its processes, its mounts, and what is kept outside of its folder."""

import shutil
import subprocess
from pathlib import Path

from group import Group

# What a cluster leaves in its folder: one reads afterwards what happened.
KEPT = ("logs", "pod-logs", "audit.log")


def end(folder: Path) -> None:
    """Ends the cluster of a folder; nothing happens when there is none."""
    mark = folder / "group"
    if not mark.exists():
        return
    Group(mark.read_text()).end()
    unmount(folder)
    for file in outside(folder):
        file.unlink(missing_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in KEPT:
            shutil.rmtree(entry)
        elif entry.name not in (*KEPT, mark.name):
            entry.unlink()
    # Last, so that an end that was ended can be called again.
    mark.unlink()


def unmount(folder: Path) -> None:
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in sorted(points, reverse=True):
        if point.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", point], check=True)


def outside(folder: Path) -> list[Path]:
    """The sockets of containerd's shims, and the kubelet's links to the logs of containers."""
    told = folder.glob("containerd/state/io.containerd.runtime.v2.task/*/*/address")
    sockets = [Path(file.read_text().removeprefix("unix://")) for file in told]
    links = [link for link in Path("/var/log/containers").glob("*") if link.is_symlink()]
    return sockets + [link for link in links if str(link.readlink()).startswith(f"{folder}/")]
