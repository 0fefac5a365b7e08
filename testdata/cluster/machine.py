"""The folder of one cluster: its addresses, keys, settings, and the processes that `up` started."""

import json
import secrets
import subprocess
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from api import Api
from group import Group

SECONDS_TO_START = 120
LINES_SHOWN = 25

# Who talks to the API server, and as what. Rights come from RBAC's own roles, save the administrator's.
USERS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "node": ("system:node:node", "system:nodes"),
}


class Failed(Exception):
    """A part of the cluster did not start; the text holds the end of its log."""


class Machine:
    """A cluster with a network 127.X.Y.0/24 for itself.

    So each port is the usual one, and any number of clusters stand beside each other. The first address is
    the node's and the API server's: a pod finds it in `KUBERNETES_SERVICE_HOST`.
    """

    def __init__(self, folder: Path, network: str, group: Group) -> None:
        self.folder, self.group = folder, group
        self.network, self.address = f"{network}.0/24", f"{network}.1"
        self.server = f"https://{self.address}:443"
        self.tokens = {user: secrets.token_hex(16) for user in USERS}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    @cached_property
    def api(self) -> Api:
        """Its administrator's client, once there are certificates."""
        return Api(self.server, self.folder / "pki" / "ca.crt", self.tokens["admin"])

    @classmethod
    def claim(cls, folder: Path) -> "Machine":
        """Takes a network that no other cluster of this machine has; its control group is the mark."""
        while True:
            network = f"127.{64 + secrets.randbelow(64)}.{secrets.randbelow(256)}"
            group = Group(f"testcluster-{network}")
            if group.claim():
                (folder / "group").write_text(group.name)
                return cls(folder, network, group)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, content: object) -> str:
        """A settings file. JSON is YAML as well."""
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
        file.write_text(text)
        return str(file)

    def kubeconfig(self, user: str) -> str:
        cluster = {"server": self.server, "certificate-authority": self.path("pki/ca.crt")}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testcluster", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": "testcluster", "context": {"cluster": "testcluster", "user": user}}],
            "current-context": "testcluster",
        }
        return self.write(f"{user}.kubeconfig", content)

    def start(self, name: str, command: list[Path | str], flags: dict[str, str]) -> None:
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as out:
            self.running[name] = subprocess.Popen(
                [*command, *(f"--{flag}={value}" for flag, value in flags.items())],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self.group.enter,  # noqa: PLW1509 - there is one thread
            )
        self.write(f"{name}.pid", str(self.running[name].pid))

    def wait_for(self, name: str, what: str, there: Callable[[], object]) -> None:
        """Waits until something holds that the process of this name brings about."""
        limit = time.monotonic() + SECONDS_TO_START
        while not there():
            for other, process in self.running.items():
                if process.poll() is not None:
                    raise Failed(f"{other} ended with {process.returncode}:\n{self.log(other)}")
            if time.monotonic() > limit:
                raise Failed(f"{what} did not come within {SECONDS_TO_START} s:\n{self.log(name)}")
            time.sleep(0.1)

    def log(self, name: str) -> str:
        """The end of what a process said."""
        lines = (self.folder / "logs" / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LINES_SHOWN:])
