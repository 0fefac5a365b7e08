"""What tests need of the machine: seeds, servers, and queue systems as producers and engines see them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import RedisServer, RedisSystem, SqliteSystem, System


def pytest_report_header() -> str:
    return f"QSCALER_SEED={os.environ.get('QSCALER_SEED', '1')}"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture(params=["redis", "sqlite"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> System:
    """Each queue system in turn."""
    if request.param == "sqlite":
        return SqliteSystem(tmp_path / "queue.db")
    server: RedisServer = request.getfixturevalue("redis_server")
    return RedisSystem(server.url)
