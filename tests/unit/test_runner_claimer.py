"""The claimer by itself: no threads, no database, and a clock that is moved by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.claiming import claimer as claimer_module
from django_fsmworker.runner.claiming import lanes as lanes_module
from django_fsmworker.runner.claiming.claimer import Claimer, Intake
from django_fsmworker.runner.claiming.lanes import Capacity, Prefetch
from django_fsmworker.runner.claiming.limiter import Limiter
from django_fsmworker.runner.database.outages import OutageTracker
from django_fsmworker.runner.in_flight.attempts import InFlight
from django_fsmworker.runner.in_flight.queues import ReadyQueue
from django_fsmworker.store import Lane
from tests.app.models import Chain, Noop

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEASE = 30.0
# The queue of ready rows keeps to the real clock: seen from there, no lease here runs out.
START = 1e9
STATES = ["first", "second", "third"]


class Rows:
    """A store of rows in memory, with a clock of its own."""

    alias = "default"

    def __init__(self) -> None:
        self.time = NOON
        self.due: list[Any] = []
        self.claims: list[dict[str, Lane]] = []
        self.during: Callable[[], None] = lambda: None
        self._keys = itertools.count(1)

    def add(self, number: int, state: str = "first", age: float = 60.0, model: Any = Chain) -> None:
        """Rows due ``age`` seconds ago, and a millisecond later each."""
        for position in range(number):
            due = self.time - timedelta(seconds=age - position / 1000)
            self.due.append(
                model(pk=next(self._keys), state=state, state_next=due, state_changed=due)
            )

    def now(self) -> datetime:
        return self.time

    def claim(
        self, model: Any, lanes: Sequence[Lane], lease: float, until: datetime | None = None
    ) -> list[Any]:
        self.claims.append({lane.state: lane for lane in lanes})
        latest = min(self.time, until or self.time)
        found: list[Any] = []
        for lane in lanes:
            found += sorted(
                (
                    row
                    for row in self.due
                    if type(row) is model
                    and row.state == lane.state
                    and row.state_next <= latest
                    and (lane.since is None or row.state_next >= lane.since)
                ),
                key=lambda row: row.state_next,
            )[: lane.limit]
        for row in found:
            self.due.remove(row)
            row.__dict__["state_lease"] = self.time + timedelta(seconds=lease)
            row.__dict__["state_claim"] = 2
        self.during()
        return sorted(found, key=lambda row: row.state_next)

    def mismatch(self, model: Any, error: BaseException) -> None:
        """No error is explained by the table."""

    def peek(self, lanes: Mapping[Any, Sequence[Lane]]) -> dict[tuple[Any, str], float]:
        return {
            (model, lane.state): min(
                (row.state_next - self.time).total_seconds()
                for row in self.due
                if type(row) is model and row.state == lane.state
            )
            for model in lanes
            for lane in lanes[model]
            if any(type(row) is model and row.state == lane.state for row in self.due)
        }

    def pauses(self, labels: Any) -> list[Any]:
        return []


class Bench:
    """A claimer, what it is joined to, and hands that end what it claims."""

    def __init__(self, *models: Any, room: int, **options: Any) -> None:
        settings = RunnerSettings.load(**{"lease": LEASE, "poll_interval": 5, **options})
        self.rows = Rows()
        self._in_flight = InFlight()
        self._ready = ReadyQueue(None, give_back=lambda attempt: None)
        prefetch = Prefetch(1, room, LEASE)
        prefetch.target = room
        both = dict.fromkeys((False, True), prefetch)
        stores: dict[Any, Any] = dict.fromkeys(models, self.rows)
        self.claimer = Claimer(
            stores,
            settings,
            Capacity(settings, self._in_flight, self._ready, both),
            Intake(self._in_flight, self._ready, lambda attempts: None),
            OutageTracker(),
            Limiter(stores, settings, self._in_flight, list, "alone"),
        )

    def claim(self) -> list[Any]:
        """Claim once, and look at the database if it is time; the rows that were found."""
        self.claimer.claim()
        self.claimer.peek()
        return [attempt.row for attempt in self._in_flight.all()]

    def end(self) -> int:
        """Every row in hand is settled; how many there were."""
        while self._ready.waiting():
            attempt = self._ready.take(0)
            assert attempt is not None
            self._ready.done(attempt)
        held = self._in_flight.all()
        self._in_flight.remove(held)
        return len(held)

    def drained(self) -> list[int]:
        """Claim and settle until there is nothing to do; how many rows each claim found."""
        found = []
        while self.claimer.seconds_to_wait() == 0:
            self.claim()
            found.append(self.end())
        return found


class Ticks:
    """``time.monotonic()``, moved by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    ticks = Ticks()
    for module in (claimer_module, lanes_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=ticks))
    monkeypatch.setattr(claimer_module, "jittered", lambda seconds: seconds)
    return ticks


@pytest.fixture
def bench(ticks: Ticks) -> Callable[..., Bench]:
    return lambda *models, room=10, **options: Bench(*(models or (Chain,)), room=room, **options)


def later(bench: Bench, ticks: Ticks, seconds: float) -> None:
    """Time goes by, here and at the database."""
    ticks.now += seconds
    bench.rows.time += timedelta(seconds=seconds)


def by_state(rows: Sequence[Any]) -> dict[str, int]:
    return {state: sum(row.state == state for row in rows) for state in STATES}


class TestRoom:
    def test_is_shared_by_the_lanes(self, bench: Callable[..., Bench]) -> None:
        here = bench(room=400)
        for state in STATES:
            here.rows.add(500, state)

        assert by_state(here.claim()) == {"first": 100, "second": 100, "third": 100}

    @pytest.mark.parametrize("room", [1, 2, 3, 5, 9])
    def test_no_claim_takes_more(self, bench: Callable[..., Bench], room: int) -> None:
        here = bench(room=room)
        for state in STATES:
            here.rows.add(50, state)

        found = here.drained()

        assert max(found) <= room
        assert sum(found) == 150

    def test_lanes_take_turns_where_there_is_less_than_one_row_each(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench(room=1)
        for state in STATES:
            here.rows.add(50, state)

        seen = []
        for _ in range(12):
            seen += [row.state for row in here.claim()]
            here.end()
            later(here, ticks, 0.01)

        # The last lane has nothing, and is looked at once before it is left to sleep.
        assert sorted(seen.count(state) for state in STATES) == [3, 4, 4]

    def test_a_lane_with_many_rows_does_not_starve_one_with_few(
        self, bench: Callable[..., Bench]
    ) -> None:
        here = bench(room=100)
        here.rows.add(5000, "first", age=3600)
        here.rows.add(10, "third", age=1)

        assert by_state(here.claim())["third"] == 10

    def test_a_lane_that_sleeps_leaves_its_share_to_the_others(
        self, bench: Callable[..., Bench]
    ) -> None:
        here = bench(room=100)
        here.rows.add(5000, "first", age=3600)
        here.claim()
        here.end()

        assert by_state(here.claim())["first"] == 100

    def test_models_share_it_too(self, bench: Callable[..., Bench]) -> None:
        here = bench(Chain, Noop, room=100)
        here.rows.add(5000, "first", age=3600)
        here.rows.add(10, "new", age=1, model=Noop)

        here.claim()

        assert not [row for row in here.rows.due if type(row) is Noop]


class TestWaking:
    def test_a_lane_woken_while_its_claim_is_under_way_is_asked_again(
        self, bench: Callable[..., Bench]
    ) -> None:
        here = bench()
        here.drained()

        def arrive() -> None:
            """A row that comes after the claim has looked."""
            here.rows.during = lambda: None
            here.rows.add(1, "second", age=0)
            here.claimer.lanes.wake(Chain, "second", 0)

        here.rows.during = arrive
        here.rows.add(1, "second")
        here.claimer.lanes.wake(Chain, "second", 0)

        assert sum(here.drained()) == 2

    def test_every_delay_is_remembered(self, bench: Callable[..., Bench], ticks: Ticks) -> None:
        here = bench()
        here.drained()
        here.claimer._next_peek = float("inf")
        found = []
        for delay in (3, 1, 2):
            here.rows.add(1, "second", age=-delay)
            here.claimer.lanes.wake(Chain, "second", delay)

        for _ in range(40):
            later(here, ticks, 0.1)
            found.append(sum(here.drained()))

        assert sum(found) == 3
        assert max(found) == 1

    def test_sleeps_until_the_next_due_time(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench()
        here.drained()
        here.claimer.lanes.wake(Chain, "second", 2)

        assert 2 <= here.claimer.seconds_to_wait() <= 2.1

    def test_a_lane_left_out_is_not_asked(self, bench: Callable[..., Bench]) -> None:
        here = bench()
        here.drained()
        here.rows.add(1, "second")
        here.claimer.lanes.wake(Chain, "second", 0)
        here.drained()

        assert list(here.rows.claims[-1]) == ["second"]


class TestBelowTheMark:
    """Rows that no claim from the mark can see."""

    def test_a_busy_lane_finds_them_within_a_sixth_of_a_lease(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench()
        here.rows.add(1000)
        here.claim()
        here.rows.add(1, age=600)
        (below,) = here.rows.due[-1:]

        for _ in range(20):
            here.end()
            later(here, ticks, 0.5)
            here.claim()
            if below not in here.rows.due:
                break

        assert ticks.now - START <= LEASE / 6
        assert here.rows.due, "the lane was busy all the time"

    @pytest.mark.parametrize(
        ("options", "within"),
        [
            ({"lease": 30, "poll_interval": 60}, 5),
            ({"lease": 600, "poll_interval": 5}, 5),
            ({"lease": 600, "poll_interval": 1}, 1),
            ({"lease": 600, "poll_interval": 60}, 30),
        ],
    )
    def test_a_busy_lane_finds_them_within_the_shortest_of_its_intervals(
        self,
        bench: Callable[..., Bench],
        ticks: Ticks,
        options: dict[str, float],
        within: float,
    ) -> None:
        """A sixth of a lease, the poll interval, 30 seconds."""
        here = bench(**options)
        here.rows.add(1_500)
        here.claim()
        here.rows.add(1, age=3600)
        (below,) = here.rows.due[-1:]

        while below in here.rows.due:
            here.end()
            later(here, ticks, 0.25)
            here.claim()

        assert within - 0.25 <= ticks.now - START <= within
        assert len(here.rows.due) > 10, "the lane was busy all the time"

    def test_a_lane_that_was_woken_for_nothing_finds_them_at_once(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench()
        here.rows.add(25)
        here.drained()
        later(here, ticks, 1)
        here.rows.add(1, age=600)
        here.claimer.lanes.wake(Chain, "first", 0)

        assert here.drained() == [0, 1]

    def test_a_sleeping_lane_finds_them_at_the_next_look_at_the_database(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench(lease=120)
        here.rows.add(25)
        here.drained()
        here.rows.add(1, age=600)
        here.rows.add(1, age=0)

        later(here, ticks, here.claimer.seconds_to_wait())

        assert sum(here.drained()) == 2

    def test_each_row_of_others_is_found_when_it_is_due(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        """Of those that sleep the database tells the first, and then the next."""
        here = bench(poll_interval=60)
        here.drained()
        for due_in in range(61, 71):
            here.rows.add(1, age=-due_in)

        late, looks = [], 0
        while here.rows.due:
            due = here.rows.due[0].state_next
            while here.rows.due and here.rows.due[0].state_next == due:
                later(here, ticks, here.claimer.seconds_to_wait())
                here.drained()
                looks += 1
            late.append((here.rows.time - due).total_seconds())

        assert max(late) < 0.1
        assert looks <= 30

    def test_no_busy_loop_when_there_is_nothing(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench()
        here.rows.add(25)
        here.drained()
        later(here, ticks, 1)
        before = len(here.rows.claims)

        for _ in range(100):
            here.claimer.lanes.wake(Chain, "first", 0)
            here.drained()
            later(here, ticks, 0.01)

        from_start = [each for each in here.rows.claims[before:] if each["first"].since is None]
        assert len(from_start) <= 2

    def test_a_database_clock_that_is_put_back_stops_nothing(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench()
        here.rows.add(25)
        here.drained()

        here.rows.time -= timedelta(hours=1)
        here.rows.add(25)
        ticks.now += here.claimer.seconds_to_wait()

        assert sum(here.drained()) == 25

    def test_a_database_clock_that_is_put_back_in_the_middle_of_a_drain(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench()
        here.rows.add(50, age=7200)
        here.rows.add(50, age=10)
        here.claim()
        taken = here.end()

        here.rows.time -= timedelta(hours=1)

        assert sum(here.drained()) == 50 - taken
        later(here, ticks, 3600)
        assert sum(here.drained()) == 50


class TestSinglePass:
    def test_takes_what_was_due_at_its_start(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench()
        here.rows.add(25)
        here.rows.add(5, "second", age=-1)
        here.claimer.only_what_is_due_now()
        later(here, ticks, 10)
        here.rows.add(5, age=5)

        found = 0
        while not here.claimer.exhausted:
            here.claim()
            found += here.end()

        assert found == 25
        assert len(here.rows.due) == 10

    def test_looks_below_the_mark_before_it_ends(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        """For a row that was due at the start, and locked by somebody when its turn came."""
        here = bench()
        here.rows.add(25)
        here.claimer.only_what_is_due_now()
        here.claim()
        found = here.end()
        here.rows.add(1, age=600)

        while not here.claimer.exhausted:
            here.claim()
            found += here.end()

        assert found == 26

    def test_leaves_no_time_at_which_to_wake_up(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench()
        here.claimer.lanes.wake(Chain, "first", 1)
        here.rows.add(25)
        here.claimer.only_what_is_due_now()
        while not here.claimer.exhausted:
            here.claim()
            here.end()
        later(here, ticks, 2)

        assert here.claimer.seconds_to_wait() == 5

    def test_is_woken_by_nothing(self, bench: Callable[..., Bench], ticks: Ticks) -> None:
        here = bench()
        here.claimer.only_what_is_due_now()
        here.claim()

        here.claimer.lanes.wake(Chain, "first", 0)
        here.claimer.lanes.wake(Chain, "first", 1)
        later(here, ticks, 2)
        here.claim()

        assert here.claimer.exhausted


class TestProgress:
    """Liveness: rows that may run, a slot for them, and no claim, is no progress."""

    def refused(self, bench: Bench) -> None:
        def refuse() -> None:
            raise RuntimeError("the rows cannot be made")

        bench.rows.during = refuse
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(claimer_module, "discard", lambda connection: None)
            bench.claim()

    def test_there_is_none_once_no_claim_has_come_back_for_a_minute(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench()
        here.rows.add(3)

        self.refused(here)
        assert here.claimer.makes_progress()
        later(here, ticks, 59)
        self.refused(here)
        assert here.claimer.makes_progress()

        later(here, ticks, 2)
        assert not here.claimer.makes_progress()
        self.refused(here)
        assert not here.claimer.makes_progress()

    def test_a_claim_is_progress_again(self, bench: Callable[..., Bench], ticks: Ticks) -> None:
        here = bench()
        here.rows.add(3)
        later(here, ticks, 61)
        assert not here.claimer.makes_progress()

        here.claim()

        assert here.claimer.makes_progress()

    def test_nothing_due_is_no_lack_of_it(self, bench: Callable[..., Bench], ticks: Ticks) -> None:
        here = bench()
        here.drained()
        assert here.claimer.exhausted
        later(here, ticks, 3600)

        assert here.claimer.makes_progress()

    @pytest.mark.parametrize("options", [{}, {"concurrency_per_model": 2}])
    def test_nor_are_checks_that_take_long(
        self, bench: Callable[..., Bench], ticks: Ticks, options: dict[str, Any]
    ) -> None:
        """Whether all slots are taken, or all that a model may have."""
        here = bench(room=9 if options else 4, **options)
        here.rows.add(9)
        assert here.claimer.makes_progress()
        while here.claimer.seconds_to_wait() == 0:
            here.claim()
        assert here.rows.due
        later(here, ticks, 61)

        assert here.claimer.makes_progress()

    def test_nor_is_a_database_that_is_away(
        self, bench: Callable[..., Bench], ticks: Ticks
    ) -> None:
        here = bench()
        here.rows.add(3)
        later(here, ticks, 61)
        here.claimer._query_guards["default"].retry_at = ticks.now + 1

        assert here.claimer.makes_progress()
