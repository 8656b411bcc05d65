"""In which order claimed rows are started, and what happens to those that cannot be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_fsmworker.runner.work.attempt import Attempt, attempts_at
from django_fsmworker.runner.work.ready import ReadyQueue
from testapp.models import Trouble

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAR = 1e9
TAKEN_OVER = 3  # the token of a row whose lease had lapsed


def suspects(number: int) -> list[Attempt]:
    rows = []
    for key in range(1, number + 1):
        row: Any = Trouble(pk=key, state="new", state_changed=NOW, state_next=NOW)
        lease = NOW + timedelta(seconds=30)
        row.__dict__.update(state_lease=lease, state_claim=TAKEN_OVER, state_failures=1)
        rows.append(row)
    return attempts_at(None, Trouble, rows, FAR, 30.0)  # type: ignore[arg-type]


@pytest.fixture
def queue() -> ReadyQueue:
    return ReadyQueue(None, lambda work: None)


class TestSuspects:
    def test_run_one_after_the_other(self, queue: ReadyQueue) -> None:
        first, second, third = suspects(3)
        queue.put([first, second, third])

        assert queue.take(0) is first
        assert queue.take(0) is None
        queue.done(first)
        assert queue.take(0) is second
        queue.done(second)
        assert queue.take(0) is third

    def test_one_that_moved_on_while_it_waited_passes_its_turn_on(self, queue: ReadyQueue) -> None:
        first, second, third = suspects(3)
        queue.put([first, second, third])
        assert queue.take(0) is first
        assert queue.take(0) is None

        second.superseded = True
        queue.done(first)

        assert queue.take(0) is third

    def test_so_does_one_whose_lease_ran_out(self, queue: ReadyQueue) -> None:
        first, second, third = suspects(3)
        queue.put([first, second, third])
        assert queue.take(0) is first
        assert queue.take(0) is None

        second.lease_until = 0.0
        queue.done(first)

        assert queue.take(0) is third
        second.lease_until = FAR
        queue.recover()
        assert queue.take(0) is None
        queue.done(third)
        assert queue.take(0) is second
