"""How claimed rows are put together to batches, halved, and counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.claiming.lanes import Capacity, Prefetch
from django_fsmworker.runner.database.outages import OutageTracker
from django_fsmworker.runner.execution.outcomes import LostConnections
from django_fsmworker.runner.in_flight.attempts import (
    WHOLE,
    Again,
    Attempt,
    Batch,
    InFlight,
    Work,
    attempts_at,
    attempts_of,
    batched,
    halves,
    together,
)
from django_fsmworker.runner.in_flight.queues import ReadyQueue, ResultRouter
from django_fsmworker.store import store_for
from tests.app.models import Letter, LetterStates, Trouble

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAR = 1e9


def attempts(number: int, state: str = "new", model: Any = Letter, **values: Any) -> list[Attempt]:
    rows = []
    for key in range(1, number + 1):
        row = model(pk=key, state=state, state_changed=NOW, state_next=NOW)
        row.__dict__.update({"state_lease": NOW + timedelta(seconds=30), "state_claim": 2})
        row.__dict__.update(values)
        rows.append(row)
    return attempts_at(None, model, rows, FAR, 30.0)  # type: ignore[arg-type]


def sizes(works: list[Work]) -> list[int]:
    return [len(attempts_of(work)) for work in works]


def batch_of(number: int, **values: Any) -> Batch:
    (batch,) = together(attempts(number, **values))
    assert isinstance(batch, Batch)
    return batch


class TestBatched:
    def test_as_many_as_the_state_says(self) -> None:
        assert sizes(batched(attempts(50), lambda attempt: False)) == [20, 20, 10]

    def test_one_row_is_no_batch(self) -> None:
        assert isinstance(batched(attempts(21), lambda attempt: False)[-1], Attempt)

    def test_each_state_for_itself(self) -> None:
        works = batched([*attempts(3), *attempts(3, "flying")], lambda attempt: False)

        assert [(str(work.state), work.is_async) for work in works] == [
            ("new", False),
            ("flying", True),
        ]

    def test_rows_of_other_states_are_not_touched(self) -> None:
        rows = attempts(3, model=Trouble)

        assert batched(rows, lambda attempt: False) == rows

    def test_rows_with_a_history_are_alone(self) -> None:
        rows = [
            *attempts(2),
            *attempts(2, state_failures=1),
            *attempts(2, state_claim=3, state_failures=2),
        ]

        assert sizes(batched(rows, lambda attempt: False)) == [1, 1, 1, 1, 2]

    def test_rows_that_lapsed_once_are_not(self) -> None:
        rows = [*attempts(2), *attempts(2, state_claim=3, state_failures=1)]

        assert sizes(batched(rows, lambda attempt: False)) == [4]

    def test_but_those_are_with_a_known_death(self) -> None:
        rows = [*attempts(2), *attempts(2, state_claim=3, state_failures=1)]
        rows[3].deaths = 1

        assert sizes(batched(rows, lambda attempt: False)) == [1, 3]

    def test_so_are_rows_whose_last_check_lost_its_connection(self) -> None:
        rows, losses = attempts(3), LostConnections(OutageTracker())
        rows[1].store = store_for("default")
        losses.is_outage(rows[1])

        assert sizes(batched(rows, losses.known)) == [1, 2]
        losses.forget(rows[1])
        assert sizes(batched(rows, losses.known)) == [3]

    def test_a_batch_of_one_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(LetterStates.new, "batch", 1)

        assert sizes(batched(attempts(3), lambda attempt: False)) == [1, 1, 1]


class TestBatch:
    def test_what_messages_call_it(self) -> None:
        assert batch_of(3).pk == "1 and 2 more"

    def test_its_lease_is_the_shortest(self) -> None:
        batch = batch_of(3)
        batch.attempts[1].lease_until = 5.0

        assert batch.lease_until == 5.0

    def test_a_row_that_moved_on_has_none(self) -> None:
        batch = batch_of(3)
        batch.attempts[1].superseded = True

        assert batch.lease_until == float("-inf")
        assert not batch.superseded

    def test_it_has_moved_on_when_all_have(self) -> None:
        batch = batch_of(2)
        for attempt in batch.attempts:
            attempt.superseded = True

        assert batch.superseded

    def test_its_halves_hold_all_its_attempts_and_are_stale(self) -> None:
        batch = batch_of(5)

        first, second = halves(batch)

        assert sizes([first, second]) == [2, 3]
        assert attempts_of(first) + attempts_of(second) == batch.attempts
        assert first.stale
        assert second.stale

    def test_the_halves_of_two_are_rows_alone(self) -> None:
        batch = batch_of(2)

        assert halves(batch) == batch.attempts

    def test_halves_leave_out_what_moved_on(self) -> None:
        batch = batch_of(4)
        batch.attempts[0].superseded = True

        assert sizes(halves(batch)) == [1, 2]

    def test_a_batch_without_any_row_left_has_no_halves(self) -> None:
        batch = batch_of(2)
        for attempt in batch.attempts:
            attempt.superseded = True

        assert halves(batch) == []


class TestPassOn:
    @pytest.fixture
    def settled(self) -> list[Any]:
        return []

    @pytest.fixture
    def offered(self) -> list[Work]:
        return []

    @pytest.fixture
    def pass_on(self, settled: list[Any], offered: list[Work]) -> ResultRouter:
        return ResultRouter(settled.append, offered.extend)

    def test_a_row_alone_is_settled(self, pass_on: ResultRouter, settled: list[Any]) -> None:
        (attempt,) = attempts(1)

        pass_on.route(attempt, None)

        assert settled == [(attempt, None)]

    def test_each_row_of_a_batch_gets_its_own(
        self, pass_on: ResultRouter, settled: list[Any]
    ) -> None:
        batch = batch_of(2)
        batch.finished = True
        outcome: Any = object()

        pass_on.route(batch, [None, outcome])

        assert settled == [(batch.attempts[0], None), (batch.attempts[1], outcome)]
        assert all(attempt.finished for attempt in batch.attempts)

    def test_a_batch_is_handed_back_as_a_whole(
        self, pass_on: ResultRouter, settled: list[Any]
    ) -> None:
        batch = batch_of(2)

        pass_on.route(batch, None)

        assert settled == [(attempt, None) for attempt in batch.attempts]
        assert not any(attempt.finished for attempt in batch.attempts), "it had not begun"

    def test_halves_go_back_to_the_queue(
        self, pass_on: ResultRouter, settled: list[Any], offered: list[Work]
    ) -> None:
        pass_on.route(batch_of(6), Again.IN_HALVES)

        assert (sizes(offered), settled) == ([3, 3], [])


class TestQueue:
    @pytest.fixture
    def given_back(self) -> list[Work]:
        return []

    @pytest.fixture
    def queue(self, given_back: list[Work]) -> ReadyQueue:
        return ReadyQueue(None, given_back.append)

    def test_a_batch_stands_in_line_as_one(self, queue: ReadyQueue) -> None:
        batch = batch_of(5)
        queue.put([batch])

        assert queue.waiting() == 1
        assert queue.take(0) is batch
        assert queue.running == 1

    def test_an_async_one_has_its_own_line(self, queue: ReadyQueue) -> None:
        batch = batch_of(5, state="flying")
        queue.put([batch])

        assert queue.take(0) is None
        assert queue.take(0, is_async=True) is batch

    def test_it_starts_without_the_rows_that_moved_on(self, queue: ReadyQueue) -> None:
        batch = batch_of(3)
        batch.attempts[1].superseded = True
        queue.put([batch])

        work = queue.take(0)

        assert work is not None
        assert attempts_of(work) == [batch.attempts[0], batch.attempts[2]]

    def test_rows_whose_lease_ran_out_wait_for_its_renewal(self, queue: ReadyQueue) -> None:
        batch = batch_of(5)
        for attempt in batch.attempts[:2]:
            attempt.lease_until = 0.0
        queue.put([batch])

        first = queue.take(0)
        assert first is not None
        assert attempts_of(first) == batch.attempts[2:]
        assert queue.take(0) is None
        for attempt in batch.attempts[:2]:
            attempt.lease_until = FAR
        queue.recover()
        second = queue.take(0)

        assert second is not None
        assert attempts_of(second) == batch.attempts[:2]

    def test_once_closed_it_gives_back_what_has_not_started(
        self, queue: ReadyQueue, given_back: list[Work]
    ) -> None:
        waiting, late = batch_of(3), batch_of(2)
        queue.put([waiting])
        queue.close(1)
        queue.put([late])

        assert given_back == [waiting, late]

    def test_the_cap_of_a_model_counts_calls(self, given_back: list[Work]) -> None:
        queue = ReadyQueue(1, given_back.append)
        first, second = batch_of(3), batch_of(2)
        queue.put([first, second])

        assert queue.take(0) is first
        assert queue.take(0) is None
        queue.done(first)
        assert queue.take(0) is second


class TestPlaces:
    """A row takes its share of a place: as many as a batch holds take one."""

    def test_rows_of_a_plain_state_take_one_each(self) -> None:
        holdings = InFlight()
        rows = attempts(7, model=Trouble)
        holdings.add(rows)

        assert (holdings.slots(False), holdings.rows(False), holdings.slots_of(Trouble)) == (
            7,
            7,
            7,
        )
        holdings.remove(rows)
        assert (holdings.slots(False), holdings.rows(False), holdings.slots_of(Trouble)) == (
            0,
            0,
            0,
        )

    @pytest.mark.parametrize(("number", "places"), [(1, 1), (20, 1), (21, 2), (200, 10)])
    def test_rows_of_a_batch_share_one(self, number: int, places: int) -> None:
        holdings = InFlight()
        holdings.add(attempts(number))

        assert (holdings.slots(False), holdings.rows(False)) == (places, number)
        assert holdings.slots_of(Letter) == places

    def test_abandoned_rows_take_none(self) -> None:
        holdings, rows = InFlight(), attempts(20)
        holdings.add(rows)
        for attempt in rows:
            holdings.set_aside(attempt)

        assert (holdings.slots(False), holdings.rows(False)) == (0, 0)

    @pytest.mark.parametrize("batch", [3, 7, 9_999, 10_000])
    def test_shares_add_up(self, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(LetterStates.new, "batch", batch)

        assert 0 < attempts(1)[0].share * batch <= WHOLE


class TestRoom:
    def room(self, target: int, most: int = 2000, **options: Any) -> tuple[Capacity, InFlight]:
        holdings = InFlight()
        throughput = Prefetch(1, most, 30.0)
        throughput.target = target
        settings = RunnerSettings.load(**options)
        queue = ReadyQueue(None, lambda work: None)
        throughputs = {False: throughput, True: throughput}
        return Capacity(settings, holdings, queue, throughputs), holdings

    def test_rows_in_flight_take_the_room_of_their_kind(self) -> None:
        room, holdings = self.room(20)
        holdings.add(attempts(5, model=Trouble))

        assert room.slots(False) == 15
        assert room.slots_for(Trouble, False, 2) == 8
        assert room.rows(Letter, [LetterStates.done, LetterStates.failed], False, 8) == [4, 4]

    def test_a_place_is_filled_with_a_batch(self) -> None:
        room, _ = self.room(20)

        assert room.rows(Letter, [LetterStates.new], False, 5) == [100]

    def test_states_share_the_places(self) -> None:
        room, _ = self.room(20)

        assert room.rows(Letter, [LetterStates.new, LetterStates.done], False, 10) == [100, 5]

    def test_no_claim_is_larger_than_it_may_be(self) -> None:
        room, _ = self.room(200, claim_batch=300)

        assert room.rows(Letter, [LetterStates.new, LetterStates.done], False, 200) == [150, 100]

    def test_no_more_rows_are_held_than_allowed(self) -> None:
        room, holdings = self.room(50, most=100)
        holdings.add(attempts(70))

        assert room.slots(False) == 30
        assert room.rows(Letter, [LetterStates.new], False, 30) == [30]
        holdings.add(attempts(100)[70:])
        assert room.slots(False) == 0

    def test_the_cap_of_a_model_counts_places(self) -> None:
        room, holdings = self.room(50, concurrency_per_model=2)
        holdings.add(attempts(20))

        assert room.slots_for(Letter, False, 1) == 3
