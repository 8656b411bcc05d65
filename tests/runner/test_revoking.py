"""A row that is moved while its check runs: that of its new state begins when it has ended."""

from __future__ import annotations

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from django_fsmworker.models.records import FailureRecord
from tests.app.models import Letter, Trouble
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import failure, fresh, path, states
from tests.runner.scripted_check import STATES, ScriptedCheck

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

# Renewed when a third of it is over: a machine that stands still for two seconds loses no row.
LEASE = 4.0


@dataclass
class Log:
    """When each check of each row began and ended, and in which state the row was."""

    calls: list[tuple[Any, str, float, float]] = field(default_factory=list)
    begun: list[tuple[Any, str]] = field(default_factory=list)

    def around(self, row: Any, takes: float, after: threading.Event | None = None) -> None:
        """A call that nothing interrupts before it returns, so many seconds after that event."""
        began, state = time.monotonic(), str(row.state)
        try:
            self.begun.append((row.pk, state))  # from here on somebody may move the row
            if after is not None:
                after.wait(30)
            time.sleep(takes)
        finally:
            self.calls.append((row.pk, state, began, time.monotonic()))

    def overlapping(self) -> list[Any]:
        """Pairs of calls for the same row that ran at the same time."""
        return [
            (one, other)
            for one in self.calls
            for other in self.calls
            if one is not other and one[0] == other[0] and one[2] <= other[2] < one[3]
        ]


def renewed(row: Any) -> Callable[[], bool]:
    """Whether the row is leased for longer than it is now."""
    until = fresh(row).state_lease
    return lambda: bool(fresh(row).state_lease > until)


def saved(row: Trouble) -> None:
    row.state = "patient"
    row.save()


WAYS = [
    lambda row: row.state_transition("patient"),
    lambda row: saved(Trouble.objects.get(pk=row.pk)),
    lambda row: Trouble.state_transition_queryset(Trouble.objects.filter(pk=row.pk), "patient"),
    lambda row: Trouble.objects.filter(pk=row.pk, state="new").update(state="patient"),
]


def test_capture_and_refund_never_overlap(
    start_runner: Start, eventually: Eventually, mode: Callable[..., None]
) -> None:
    log = Log()
    looked_at: defaultdict[Any, threading.Event] = defaultdict(threading.Event)

    def check(row: Trouble) -> str:
        if row.state == "new":
            log.around(row, 0.1, after=looked_at[row.pk])
        else:
            log.around(row, 0.05)
        return "done" if row.state == "patient" else "waiting"

    mode("money", check)
    rows = Trouble.objects.bulk_create(Trouble(mode="money") for _ in range(40))
    # Few enough that none is kept for another state: each row is waited for in turn below.
    runners = [start_runner(Trouble, lease=6, concurrency=4, deadline=60) for _ in range(2)]

    for number, row in enumerate(rows):
        eventually(lambda row=row: (row.pk, "new") in log.begun)
        if number % 5 < 4:  # the others are captured in peace
            WAYS[number % len(WAYS)](row)
        looked_at[row.pk].set()

    eventually(lambda: not Trouble.objects.exclude(state__in=["done", "waiting"]).exists(), 30)
    eventually(lambda: not Trouble.objects.exclude(state_claim=None).exists())
    refunded = [row.pk for row in rows if fresh(row).state == "done"]
    assert len(refunded) >= 20, "most were moved while they were captured"
    assert log.overlapping() == []
    assert sorted(pk for pk, state, *_ in log.calls if state == "patient") == sorted(refunded)
    assert sorted(pk for pk, state, *_ in log.calls if state == "new") == [row.pk for row in rows]
    eventually(lambda: sum(each.total("superseded") for each in runners) == len(refunded))
    assert sum(each.total("failed") for each in runners) == 0
    assert not FailureRecord.objects.exists()


@pytest.mark.parametrize("kind", STATES)
def test_a_call_for_many_rows_holds_the_one_that_moved_until_it_has_ended(
    kind: str, start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ScriptedCheck(kind, monkeypatch)
    script.open.clear()
    rows = script.letters(3)
    runner = start_runner(Letter, lease=LEASE, deadline=60)
    eventually(lambda: script.calls)

    rows[1].state_transition(script.state)  # the same state again: its check is due at once
    eventually(lambda: runner.total("superseded") == 1)
    eventually(renewed(rows[1]))
    assert len(script.calls) == 1
    script.open.set()

    eventually(lambda: states(rows) == ["done"] * 3)
    assert script.calls == [[row.pk for row in rows], [rows[1].pk]]
    assert path(rows[1]) == [script.state, script.state, "done"]


def test_a_check_that_is_alone_is_ended_at_once_where_hints_arrive(
    start_runner: Start, eventually: Eventually, mode: Callable[..., None], vendor: str
) -> None:
    if vendor == "mysql":
        pytest.skip("MariaDB and MySQL have no hints: the next renewal tells")

    def check(row: Trouble) -> Any:
        while row.state == "new":
            time.sleep(0.01)
        return "done"

    mode("loop_until_moved", check)
    row = Trouble.objects.create(mode="loop_until_moved")
    runner = start_runner(Trouble, lease=300, deadline=200)
    eventually(lambda: runner.runner.status().threads.running and runner.runner.hints.active)

    row.state_transition("patient")

    eventually(lambda: fresh(row).state == "done", 30)  # long before the lease is renewed
    assert path(row) == ["new", "patient", "done"]
    eventually(lambda: runner.total("superseded") == 1)


def test_a_check_that_moves_its_own_row_ends_in_peace(
    start_runner: Start,
    eventually: Eventually,
    mode: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, ended, go_on = Log(), [], threading.Event()

    def check(row: Trouble) -> Any:
        if row.state == "patient":
            log.around(row, 0.0)
            return "done"
        row.state_transition("patient")
        log.around(row, 0.0, after=go_on)
        ended.append(row.pk)
        return None

    mode("moves_itself", check)
    row = Trouble.objects.create(mode="moves_itself")
    start_runner(Trouble, lease=LEASE)
    eventually(lambda: log.begun)
    eventually(renewed(row))
    go_on.set()

    eventually(lambda: fresh(row).state == "done")
    assert ended == [row.pk]
    assert log.overlapping() == []
    assert not [each for each in caplog.messages if "was cancelled" in each]


@pytest.fixture
def stubborn(mode: Callable[..., None]) -> Iterator[threading.Event]:
    """Checks in ``new`` of the mode ``stubborn`` catch whatever comes until this is set."""
    released = threading.Event()

    def check(row: Trouble) -> str:
        while row.state == "new" and not released.is_set():
            try:
                _wait(released)
            except BaseException:
                continue
        return "done"

    mode("stubborn", check)
    yield released
    released.set()


def _wait(event: threading.Event) -> None:
    while not event.is_set():
        time.sleep(0.005)


def test_a_check_that_does_not_end_keeps_the_next_one_waiting(
    start_runner: Start, eventually: Eventually, stubborn: threading.Event
) -> None:
    row = Trouble.objects.create(mode="stubborn")
    first = start_runner(Trouble, lease=LEASE, deadline=60, abandon_after=0.1)
    eventually(lambda: first.runner.status().threads.running)
    second = start_runner(Trouble, lease=LEASE)
    eventually(lambda: second.runner.status().rounds)

    row.state_transition("patient")
    eventually(renewed(row))
    assert path(row) == ["new", "patient"]
    stubborn.set()

    eventually(lambda: fresh(row).state == "done")
    assert path(row) == ["new", "patient", "done"]
    assert failure(row) is None


@pytest.mark.once
def test_when_its_holder_is_killed_the_lease_lapses_and_nobody_is_blamed(
    start_process: Callable[..., Any], eventually: Eventually
) -> None:
    row = Trouble.objects.create(mode="sleep", value=60)
    process = start_process("runstator", "tests.Trouble", "--lease=1")
    eventually(lambda: Trouble.objects.running().exists(), 40)
    process.send(signal.SIGKILL)
    process.wait()
    Trouble.objects.filter(pk=row.pk).update(mode="succeed")

    row.state_transition("patient")

    def run() -> bool:
        one_pass(Trouble)
        return bool(fresh(row).state == "done")

    eventually(run, 30)
    assert path(row) == ["new", "patient", "done"]
    assert failure(row) is None


class Calls:
    """Checks of the mode ``in a call``: nothing interrupts them until they are released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.begun: dict[Any, float] = {}

    def __call__(self, row: Trouble) -> str:
        self.begun[row.pk] = time.monotonic()
        self.released.wait(30)
        return "done"


@pytest.fixture
def calls(mode: Callable[..., None]) -> Iterator[Calls]:
    calls = Calls()
    mode("in a call", calls)
    yield calls
    calls.released.set()


class TestThreadsThatAreStillEnding:
    def test_are_not_abandoned_and_others_have_their_slots(
        self, start_runner: Start, eventually: Eventually, calls: Calls
    ) -> None:
        rows = [Trouble.objects.create(mode="in a call") for _ in range(15)]
        runner = start_runner(
            Trouble, concurrency=16, lease=LEASE, deadline=60, abandon_after=0.1, max_abandoned=2
        )
        eventually(lambda: len(calls.begun) == 15)

        Trouble.state_transition_queryset(Trouble.objects.all(), "waiting")
        others = [Trouble.objects.create() for _ in range(30)]

        eventually(lambda: set(states(others)) == {"done"})
        assert runner.alive
        assert runner.runner.status().threads.abandoned == 0
        assert Trouble.objects.in_state("waiting").running().count() == 15
        calls.released.set()
        eventually(lambda: not Trouble.objects.running().exists())
        assert runner.total("superseded") == 15
        assert set(states(rows)) == {"waiting"}
        assert not runner.runner.too_many_abandoned
        assert not FailureRecord.objects.exists()

    def test_no_more_than_there_are_slots_have_theirs_lent(
        self, start_runner: Start, eventually: Eventually, calls: Calls
    ) -> None:
        runner = start_runner(Trouble, concurrency=1, lease=LEASE, deadline=60, abandon_after=0.1)
        rows = []
        for _ in range(2):
            rows.append(Trouble.objects.create(mode="in a call"))
            eventually(lambda: rows[-1].pk in calls.begun)
            rows[-1].state_transition("waiting")
        last = Trouble.objects.create(mode="in a call")
        eventually(renewed(rows[-1]))

        released = time.monotonic()
        calls.released.set()

        eventually(lambda: fresh(last).state == "done")
        assert calls.begun[last.pk] >= released
        assert runner.total("superseded") == 2

    def test_are_abandoned_once_they_overrun_their_own_deadline(
        self,
        start_runner: Start,
        eventually: Eventually,
        calls: Calls,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        row = Trouble.objects.create(mode="in a call")
        # Nobody takes the row, were its lease to lapse: what it waits for does not come so soon.
        runner = start_runner(Trouble, lease=0.6, deadline=3, abandon_after=0.1)
        eventually(lambda: calls.begun)

        row.state_transition("waiting")

        eventually(lambda: runner.runner.status().threads.abandoned == 1)
        assert time.monotonic() - calls.begun[row.pk] > 2, "not because its row was moved"
        (told,) = [each for each in caplog.messages if "is abandoned" in each]
        assert told.startswith(f"The check of tests.Trouble {row.pk} does not end; its thread")
        calls.released.set()
        eventually(lambda: runner.runner.status().threads.abandoned == 0)
        assert failure(row) is None
