"""In which order claimed rows are started, and what happens to those that cannot be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_fsmworker.runner.in_flight.attempts import Attempt, attempts_at
from django_fsmworker.runner.in_flight.queues import ReadyQueue
from django_fsmworker.runner.in_flight.shares import Shares
from tests.app.models import Trouble

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAR = 1e9
TAKEN_OVER = 3  # the token of a row whose lease had lapsed


def suspects(number: int, deaths: int = 2) -> list[Attempt]:
    """Taken-over rows, each of which is known to have run when so many processes died."""
    rows = []
    for key in range(1, number + 1):
        row: Any = Trouble(pk=key, state="new", state_changed=NOW, state_next=NOW)
        lease = NOW + timedelta(seconds=30)
        row.__dict__.update(state_lease=lease, state_claim=TAKEN_OVER, state_failures=1)
        rows.append(row)
    attempts = attempts_at(None, Trouble, rows, FAR, 30.0)  # type: ignore[arg-type]
    for attempt in attempts:
        attempt.deaths = deaths
    return attempts


@pytest.fixture
def queue() -> ReadyQueue:
    return ReadyQueue(None, lambda work: None)


class TestSuspects:
    def test_without_a_known_death_run_beside_any_others(self, queue: ReadyQueue) -> None:
        queue.put(suspects(5, deaths=0))

        taken = [queue.take(0) for _ in range(6)]

        assert [work and work.pk for work in taken] == [1, 2, 3, 4, 5, None]

    def test_with_one_run_three_at_a_time_beside_any_others(self, queue: ReadyQueue) -> None:
        few, others = suspects(5, deaths=1), suspects(2, deaths=0)
        queue.put([*few, *others])

        taken = list(iter(lambda: queue.take(0), None))
        assert taken == [*few[:3], *others]
        queue.done(few[1])
        queue.done(others[0])
        assert list(iter(lambda: queue.take(0), None)) == [few[3]]
        queue.done(few[0])
        assert list(iter(lambda: queue.take(0), None)) == [few[4]]

    def test_one_of_few_that_moved_on_while_it_waited_passes_its_turn_on(
        self, queue: ReadyQueue
    ) -> None:
        few = suspects(5, deaths=1)
        queue.put(few)
        assert list(iter(lambda: queue.take(0), None)) == few[:3]

        few[3].superseded = True
        queue.done(few[0])

        assert list(iter(lambda: queue.take(0), None)) == [few[4]]

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


class TestShares:
    @pytest.fixture
    def queue(self) -> ReadyQueue:
        """Of five slots: where other states are run, too, one state has four."""
        queue = ReadyQueue(None, lambda work: None)
        queue.share(Shares([Trouble], {False: 5, True: 0}))
        return queue

    def test_those_that_wait_have_their_turn_before_newer_ones(self, queue: ReadyQueue) -> None:
        rows = suspects(7, deaths=0)
        queue.put(rows[:-1])
        assert list(iter(lambda: queue.take(0), None)) == rows[:4]

        queue.put(rows[-1:])
        queue.done(rows[0])

        assert list(iter(lambda: queue.take(0), None)) == [rows[4]]

    def test_those_that_moved_on_while_they_waited_pass_their_turn_on(
        self, queue: ReadyQueue
    ) -> None:
        """More of them than calls have ended, each of which lets one try."""
        rows = suspects(14, deaths=0)
        queue.put(rows)
        running: list[Any] = list(iter(lambda: queue.take(0), None))

        for each in rows[:-1]:
            each.superseded = True
        for work in running:
            queue.done(work)

        assert list(iter(lambda: queue.take(0), None)) == rows[-1:]
