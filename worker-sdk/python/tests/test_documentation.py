"""Every example, and every block of the README, does what it says; the wheel carries what it needs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import HERE, Fleet, RedisServer, RedisSystem, until

PROJECT = HERE.parent
EXAMPLES = PROJECT / "examples"


def blocks() -> dict[str, str]:
    """The README's programs by the file names in their first lines."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n# (\S+)\n(.*?)```", text, flags=re.DOTALL)
    assert text.count("```python") == len(found), "each names its file"
    return dict(found)


def run_pytest(folder: Path, name: str) -> None:
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    result = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def finish(fleet: Fleet, program: Path, says: str) -> None:
    worker = fleet.start_program(program, {})
    until(f"it says {says}", lambda: says in worker.log.read_text())
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0
    assert "nothing is left half done" in worker.log.read_text()


def test_the_readme_leads_from_nothing_to_a_drained_worker(redis_server: RedisServer, tmp_path: Path) -> None:
    programs = blocks()
    assert programs.keys() == {"mailer.py", "test_mailer.py", "own.py"}
    for name, text in programs.items():
        (tmp_path / name).write_text(text.replace("redis://127.0.0.1:6379", redis_server.url))
    redis_server.client().lpush("mail", '{"to": "ada@example.org"}')
    with Fleet(tmp_path, RedisSystem(redis_server.url)) as fleet:
        finish(fleet, tmp_path / "mailer.py", "sent to ada@example.org")
        own = fleet.start_program(tmp_path / "own.py", {})
        until("it is ready", (tmp_path / "ready").exists)
        own.signal(signal.SIGTERM)
        assert own.wait() == 0
    run_pytest(tmp_path, "test_mailer.py")


def test_the_examples_run(redis_server: RedisServer, tmp_path: Path) -> None:
    system = RedisSystem(redis_server.url)
    program = tmp_path / "worker.py"
    program.write_text((EXAMPLES / "worker.py").read_text().replace("redis://127.0.0.1:6379", system.url))
    system.push("mail", b'{"to": "ada"}')
    system.push("work", b'{"about": "life"}')
    with Fleet(tmp_path, system) as fleet:
        finish(fleet, program, "sent to ada")
        worker = fleet.start_program(EXAMPLES / "coroutines.py", {})
        until("it answers", lambda: "answered {'about': 'life'}" in worker.log.read_text())
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    run_pytest(EXAMPLES, "test_mails.py")


def test_the_example_with_a_queue_of_its_own_runs(tmp_path: Path) -> None:
    (tmp_path / "1.task").write_text("the first")
    line = [sys.executable, str(EXAMPLES / "own_queue.py"), str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "working on the first\n"
        program.send_signal(signal.SIGTERM)
        assert program.stdout.read() == "nothing is left half done\n"
    assert program.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("through_archive", [False, True], ids=["wheel", "archive"])
def test_a_wheel_carries_the_texts_of_the_protocol(tmp_path: Path, through_archive: bool) -> None:
    kind = [] if through_archive else ["--wheel"]
    line = [sys.executable, "-m", "build", "--no-isolation", *kind, "--outdir", str(tmp_path), str(PROJECT)]
    subprocess.run(line, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    folder = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(folder)
    texts = {file.name for file in (folder / "qscaler" / "texts").glob("*/*")}
    protocol = PROJECT.parent / "protocol"
    assert texts == {file.name for system in ("redis", "sqlite") for file in (protocol / system).iterdir()}
    assert (folder / "qscaler" / "py.typed").exists()
    program = "from qscaler.protocol import text; print(len(text('redis', 'claim.lua')))"
    line = [sys.executable, "-S", "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    said = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
    assert int(said) == len((protocol / "redis" / "claim.lua").read_text())
