"""Rows whose process died under them: run by themselves, and given up if it keeps dying."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from django_fsmworker.models.records import FailureRecord
from testapp.models import Trouble
from tests.runner.embedded import one_pass
from tests.runner.rows import failure, fresh, lapse, path, reason, states

pytestmark = pytest.mark.django_db(transaction=True)


class Watch:
    """Notes when each check began and ended."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self.ran: dict[int, tuple[float, float]] = {}

    def __call__(self, row: Trouble) -> str:
        began = time.monotonic()
        time.sleep(self._pause)
        with self._lock:
            self.ran[row.pk] = began, time.monotonic()
        return "done"

    def started_beside(self, row: Trouble) -> list[int]:
        began, ended = self.ran[row.pk]
        return [pk for pk, (other, _) in self.ran.items() if began < other < ended]

    def running_beside(self, row: Trouble) -> list[int]:
        began, ended = self.ran[row.pk]
        return [
            pk
            for pk, (start, end) in self.ran.items()
            if pk != row.pk and start < ended and began < end
        ]


def test_a_lapsed_row_is_run_with_nothing_started_beside_it(mode: Callable[..., None]) -> None:
    watch = Watch(0.05)
    mode("watch", watch)
    lapsed = [Trouble.objects.create(mode="watch") for _ in range(3)]
    others = [Trouble.objects.create(mode="watch") for _ in range(12)]
    lapse(lapsed)

    one_pass(Trouble)

    assert set(states(lapsed + others)) == {"done"}
    for row in lapsed:
        assert watch.started_beside(row) == []
    assert any(watch.running_beside(row) for row in others), "the others ran side by side"


def test_a_row_that_lapsed_twice_is_run_with_nothing_running_beside_it(
    mode: Callable[..., None],
) -> None:
    watch = Watch(0.05)
    mode("watch", watch)
    lapsed = [Trouble.objects.create(mode="watch") for _ in range(2)]
    others = [Trouble.objects.create(mode="watch") for _ in range(12)]
    lapse(lapsed, times=2)

    one_pass(Trouble)

    assert set(states(lapsed + others)) == {"done"}
    for row in lapsed:
        assert watch.running_beside(row) == []


def test_taking_over_a_lapsed_lease_counts_one_failure(mode: Callable[..., None]) -> None:
    counted = []

    def note(row: Trouble) -> str:
        counted.append(fresh(row).state_failures)
        return "done"

    mode("note", note)
    row = Trouble.objects.create(mode="note")
    lapse([row])

    one_pass(Trouble)

    assert counted == [1]
    assert fresh(row).state_failures == 0


def test_the_other_rows_get_a_turn_between_suspects(mode: Callable[..., None]) -> None:
    watch = Watch(0.01)
    mode("watch", watch)
    lapsed = [Trouble.objects.create(mode="watch") for _ in range(8)]
    others = [Trouble.objects.create(mode="watch") for _ in range(8)]
    lapse(lapsed)

    one_pass(Trouble, concurrency=2)

    first_other = min(watch.ran[row.pk][0] for row in others)
    last_suspect = max(watch.ran[row.pk][0] for row in lapsed)
    assert first_other < last_suspect


def test_rows_that_lapsed_again_and_again_while_they_waited_are_not_failed() -> None:
    rows = [Trouble.objects.create() for _ in range(5)]
    lapse(rows, times=20)

    one_pass(Trouble)

    assert [path(row) for row in rows] == [["new", "done"]] * 5


def test_a_row_that_kills_its_process_ends_in_its_failure_state(
    start_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    killer = Trouble.objects.create(mode="die")
    healthy = [Trouble.objects.create() for _ in range(30)]

    def runstator() -> Any:
        return start_process("runstator", "testapp.Trouble", "--lease=1", "--poll-interval=0.2")

    processes = [runstator()]

    def supervised() -> bool:
        """As a supervisor would: start it again whenever it has died."""
        if processes[-1].ended:
            assert processes[-1].wait() == -signal.SIGKILL, processes[-1].stderr
            processes.append(runstator())
        return fresh(killer).state == "failed" and set(states(healthy)) == {"done"}

    eventually(supervised, 40)

    assert path(killer) == ["new", "failed"]
    assert reason(killer) == (
        "django_fsmworker.exceptions.ProcessDied: The process that ran this row ended 2 times "
        "while nothing ran beside it; it is not run again."
    )
    assert len(processes) == 4, "it killed three"
    for row in healthy:
        assert path(row) == ["new", "done"]
    unresolved = FailureRecord.objects.filter(resolved=None)
    assert [record.row for record in unresolved] == [str(killer.pk)]


def test_a_suspect_that_raises_has_not_killed_anybody(travel: Callable[[float], None]) -> None:
    row = Trouble.objects.create(mode="raise", state="patient")
    for _ in range(7):
        lapse([row])
        one_pass(Trouble)
        travel(61)

    assert fresh(row).state == "patient"
    assert fresh(row).state_next is not None
    record = failure(row)
    assert record is not None
    assert record.deaths == 0
