"""Rows whose process died under them: run by themselves, and given up if it keeps dying."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from django_fsmworker.models.records import FailureRecord
from django_fsmworker.store.failures import count_deaths
from tests.app.models import Trouble
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


def known_deaths(rows: list[Trouble], deaths: int) -> None:
    """Leave the rows and their records as so many processes left them that died running them."""
    lapse(rows, times=deaths + 1)
    for row in rows:
        count_deaths("default", Trouble, "new", [row.pk], "a worker")
    FailureRecord.objects.update(deaths=deaths)


def test_rows_that_lapsed_once_cost_no_throughput(mode: Callable[..., None]) -> None:
    """All that a killed process held, most of which had not even started."""
    seconds = {}
    for lapsed in (False, True):
        watch = Watch(0.2)
        mode("watch", watch)
        rows = Trouble.objects.bulk_create(Trouble(mode="watch") for _ in range(66))
        if lapsed:
            lapse(rows)

        one_pass(Trouble, concurrency=10)

        assert set(states(rows)) == {"done"}
        seconds[lapsed] = max(end for _, end in watch.ran.values()) - min(
            began for began, _ in watch.ran.values()
        )
        assert max(len(watch.running_beside(row)) for row in rows) >= 9
    # Alone, one after the other, they would take seven times as long.
    assert seconds[True] < 5 * seconds[False], seconds
    assert not FailureRecord.objects.filter(resolved=None).exists()


def test_rows_with_one_known_death_run_few_at_a_time(mode: Callable[..., None]) -> None:
    watch = Watch(0.1)
    mode("watch", watch)
    known = [Trouble.objects.create(mode="watch") for _ in range(9)]
    others = [Trouble.objects.create(mode="watch") for _ in range(9)]
    known_deaths(known, 1)

    one_pass(Trouble, concurrency=8)

    assert set(states(known + others)) == {"done"}
    keys = {row.pk for row in known}
    for row in known:
        began, _ = watch.ran[row.pk]
        at_once = [pk for pk in keys if watch.ran[pk][0] <= began < watch.ran[pk][1]]
        assert len(at_once) <= 3


def test_a_row_with_two_known_deaths_is_run_with_nothing_running_beside_it(
    mode: Callable[..., None],
) -> None:
    watch = Watch(0.05)
    mode("watch", watch)
    known = [Trouble.objects.create(mode="watch", state="patient") for _ in range(2)]
    others = [Trouble.objects.create(mode="watch") for _ in range(12)]
    known_deaths(known, 2)

    one_pass(Trouble)

    assert set(states(known + others)) == {"done"}
    for row in known:
        assert watch.running_beside(row) == []
    assert any(watch.running_beside(row) for row in others), "the others ran side by side"


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
    known_deaths(lapsed, 2)

    one_pass(Trouble, concurrency=8)  # one claim takes all of them

    first_other = min(watch.ran[row.pk][0] for row in others)
    last_suspect = max(watch.ran[row.pk][0] for row in lapsed)
    assert first_other < last_suspect


def test_rows_that_lapsed_again_and_again_while_they_waited_are_not_failed() -> None:
    rows = [Trouble.objects.create() for _ in range(5)]
    lapse(rows, times=20)

    one_pass(Trouble)

    assert [path(row) for row in rows] == [["new", "done"]] * 5


@pytest.mark.once
def test_a_row_that_kills_its_process_ends_in_its_failure_state(
    start_process: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    killer = Trouble.objects.create(mode="die")
    healthy = [Trouble.objects.create(mode="slow") for _ in range(60)]

    def runstator() -> Any:
        return start_process("runstator", "tests.Trouble", "--lease=1", "--poll-interval=0.2")

    processes = [runstator()]

    def supervised() -> bool:
        """As a supervisor would: start it again whenever it has died."""
        if processes[-1].ended:
            assert processes[-1].wait() == -signal.SIGKILL, processes[-1].stderr
            processes.append(runstator())
        return fresh(killer).state == "failed" and set(states(healthy)) == {"done"}

    eventually(supervised, 100)

    assert path(killer) == ["new", "failed"]
    assert reason(killer) == (
        "django_fsmworker.exceptions.ProcessDied: The process that ran this row ended 3 times, 1 "
        "of them while no other row was started beside it; it is not run again."
    )
    assert len(processes) == 5, "it killed four"
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
