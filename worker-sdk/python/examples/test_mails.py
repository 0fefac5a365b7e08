"""A test of one's own worker: the real one, over a queue in memory."""

import pytest
from worker import worker

from qscaler.testing import MemoryQueue


def test_mails_are_sent_and_broken_ones_put_aside(capsys: pytest.CaptureFixture[str]) -> None:
    queue = MemoryQueue()
    queue.push({"to": "ada@example.org"})
    queue.push({"from": "nobody"})
    queue.drain_now(worker)
    assert queue.done == [{"to": "ada@example.org"}]
    assert [dead.error for dead in queue.dead] == ["KeyError: 'to'"]
    assert "sent to ada@example.org" in capsys.readouterr().out
