"""Where the programs of the cluster come from: named, cached, unpacked, or built."""

import hashlib
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Archives that a machine may have beside the project.
ARCHIVES = HERE.parent.parent.parent / "shared" / "testcluster"

VERSION = "1.34.4"
STAMP = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in [("gitVersion", f"v{VERSION}"), ("gitMajor", "1"), ("gitMinor", "34")]
)


class Missing(Exception):
    """Something that the cluster needs is not on this machine; the text says what to do."""


def kube() -> Path:
    """Kubernetes itself, each component by its name as the first argument."""
    return ready("QSCALER_KUBE", "kube", HERE, ["-ldflags", f"-s -w {STAMP}", "."])


def metrics_server() -> Path:
    """What answers `kubectl top` and resource metrics."""
    build = ["-ldflags", "-s -w", "sigs.k8s.io/metrics-server/cmd/metrics-server"]
    return ready("QSCALER_METRICS_SERVER", "metrics-server", HERE / "metrics-server", build)


def ready(variable: str, name: str, module: Path, arguments: list[str]) -> Path:
    """The program, from the first place that has it. A built one is kept until its sources change."""
    if named := os.environ.get(variable):
        if not os.access(named, os.X_OK):
            raise Missing(f"{variable} names {named}, which cannot be run")
        return Path(named).absolute()
    cached = cache() / digest(module) / name
    if cached.exists():
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    # Under a name of its own until it is whole: another run may look for it, or this one be ended.
    fresh = cached.with_name(f"{name}.{os.getpid()}")
    archive = ARCHIVES / f"{name}.xz"
    if archive.exists():
        print(f"unpacking {name}", file=sys.stderr)
        with lzma.open(archive) as packed, fresh.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
    else:
        build(name, module, fresh, arguments)
    fresh.chmod(0o755)
    fresh.rename(cached)
    return cached


def build(name: str, module: Path, out: Path, arguments: list[str]) -> None:
    if not shutil.which("go"):
        raise Missing(f"{name} must be built once, and Go is missing: install Go 1.26 or later")
    print(f"building {name}: once, 10 to 20 minutes on two cores", file=sys.stderr)
    command, environment = ["go", "build", "-o", str(out), *arguments], os.environ | {"CGO_ENABLED": "0"}
    if subprocess.run(command, cwd=module, env=environment, check=False).returncode != 0:
        raise Missing(f"{name} could not be built")


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qscaler"


def digest(module: Path) -> str:
    """Changes whenever the program that would be built does."""
    sources = [module / "go.mod", *sorted(module.glob("*.go"))]
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:16]


if __name__ == "__main__":
    try:
        print(kube(), metrics_server(), sep="\n")
    except Missing as problem:
        sys.exit(str(problem))
