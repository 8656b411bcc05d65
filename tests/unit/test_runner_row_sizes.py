"""How many rows to hold, by the memory that they take."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import models
from django.test.utils import isolate_apps

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.runner.claiming.lanes import Capacity, Prefetch
from django_fsmworker.runner.claiming.row_sizes import (
    FIRST_CLAIM,
    MEGABYTE,
    SMALL_ROW,
    RowSizes,
    size_of,
    wide_columns,
)
from django_fsmworker.runner.in_flight.attempts import InFlight, attempts_at
from django_fsmworker.runner.in_flight.queues import ReadyQueue
from tests.app.models import Letter, NoopStates, Trouble

with isolate_apps("tests.app"):

    class Scan(StatorModel):
        state = StateField(NoopStates)
        name = models.CharField(max_length=1_000)
        remark = models.CharField(max_length=1_001)
        text = models.TextField()
        found = models.JSONField()
        image = models.BinaryField()
        file = models.FileField()
        pages = models.IntegerField()
        owner = models.ForeignKey("self", models.CASCADE)

        class Meta:
            app_label = "tests"

        def __str__(self) -> str:
            return self.name


def rows_of(megabytes: Sequence[float]) -> list[Any]:
    return [SimpleNamespace(image=b"\0" * int(each * MEGABYTE)) for each in megabytes]


def test_only_columns_that_may_hold_much_are_looked_at() -> None:
    assert wide_columns(Scan) == ("remark", "text", "found", "image")
    assert wide_columns(Trouble) == ("state_history",)


class TestRows:
    def test_of_an_unknown_size_are_few(self) -> None:
        assert RowSizes(256).rows(Scan, 256 * MEGABYTE) == FIRST_CLAIM

    def test_that_cannot_be_large_are_as_many_as_there_is_room_for(self) -> None:
        assert RowSizes(256).rows(Letter, MEGABYTE) == -(-MEGABYTE // SMALL_ROW)

    def test_are_as_many_as_there_is_room_for_once_their_size_is_known(self) -> None:
        sizes = RowSizes(256)

        assert sizes.seen(Scan, rows_of([1, 1])) == pytest.approx(MEGABYTE + SMALL_ROW, rel=0.01)

        assert sizes.rows(Scan, 50 * MEGABYTE) == 50

    def test_larger_ones_count_at_once_and_smaller_ones_by_and_by(self) -> None:
        sizes = RowSizes(256)
        for megabytes in (1, 10):
            sizes.seen(Scan, rows_of([megabytes]))
        assert sizes.rows(Scan, 100 * MEGABYTE) == 10

        sizes.seen(Scan, rows_of([0]))
        assert sizes.rows(Scan, 100 * MEGABYTE) == 15

    def test_small_ones_are_looked_at_seldom_until_one_is_large(self) -> None:
        sizes = RowSizes(256)
        sizes.seen(Scan, rows_of([0] * 16))
        rest = [0] * 15

        sizes.seen(Scan, rows_of([*rest, 1]))  # every fourth, of which the last is none
        assert sizes.rows(Scan, 100 * MEGABYTE) > 10_000

        sizes.seen(Scan, rows_of([1, *rest]))
        assert sizes.rows(Scan, 100 * MEGABYTE) < 500

    def test_one_that_is_larger_than_the_bound_is_run(self) -> None:
        sizes = RowSizes(1)
        sizes.seen(Scan, rows_of([100]))

        assert sizes.rows(Scan, 1) == 1
        assert sizes.rows(Scan, 0) == 0

    def test_without_a_bound_there_may_be_any_number(self) -> None:
        assert RowSizes(0).rows(Scan, RowSizes(0).limit) > 10**12

    def test_no_row_says_nothing(self) -> None:
        sizes = RowSizes(256)
        sizes.seen(Scan, [])

        assert sizes.rows(Scan, 256 * MEGABYTE) == FIRST_CLAIM


class TestSizeOf:
    @pytest.mark.parametrize(
        ("value", "size"),
        [
            (b"\0" * 10**6, 10**6),
            (memoryview(b"\0" * 10**6), 10**6),
            ("a" * 10**6, 10**6),
            ("\u20ac" * 10**6, 2 * 10**6),
            ({"found": {"text": "a" * 10**6}}, 10**6),
            (["a" * 1_000] * 1_000, 1.06 * 10**6),
            ([{"a": index, "b": "x" * 10} for index in range(10_000)], 4 * 10**6),
        ],
    )
    def test_values(self, value: Any, size: int) -> None:
        assert size_of(value) == pytest.approx(size, rel=0.3)

    @pytest.mark.parametrize("value", [None, 1, {}, [], ()])
    def test_small_ones(self, value: Any) -> None:
        assert size_of(value) < 100


class TestCapacity:
    def capacity(self, megabytes: int) -> tuple[Capacity, InFlight]:
        settings = RunnerSettings.load(max_in_flight_megabytes=megabytes)
        prefetch = Prefetch(1, 4_000, 30.0)
        prefetch.target = 2_000
        in_flight, queue = InFlight(), ReadyQueue(None, lambda work: None)
        return Capacity(settings, in_flight, queue, {False: prefetch, True: prefetch}), in_flight

    def held(self, in_flight: InFlight, number: int, size: int) -> list[Any]:
        now = RunnerSettings.load().lease
        rows = [Trouble(pk=number, state_claim=2) for number in range(number)]
        for row in rows:
            row.__dict__["state_lease"] = row.state_changed
        held = attempts_at(None, Trouble, rows, now, 30.0, size)  # type: ignore[arg-type]
        in_flight.add(held)
        return held

    def test_what_is_held_takes_of_it_until_it_is_settled(self) -> None:
        capacity, in_flight = self.capacity(10)
        capacity.row_sizes.seen(Scan, rows_of([1]))
        held = self.held(in_flight, 6, MEGABYTE)
        assert capacity.slots_for(Scan, False, 1) == 4
        assert capacity.rows(Scan, [NoopStates.new], False, 4) == [4]

        held += self.held(in_flight, 6, MEGABYTE)
        assert capacity.slots_for(Scan, False, 1) == 0
        assert capacity.slots(False) == capacity.slots(True) == 0
        assert not capacity.may_hold_more(Trouble, True)

        in_flight.remove(held)
        assert capacity.slots_for(Scan, False, 1) == 10

    def test_models_share_it(self) -> None:
        capacity, _ = self.capacity(10)
        capacity.row_sizes.seen(Scan, rows_of([1]))

        assert capacity.slots_for(Scan, False, 2) == 5
        assert capacity.slots_for(Letter, False, 2) == 1_000

    def test_a_batch_is_no_larger(self) -> None:
        capacity, _ = self.capacity(10)
        capacity.row_sizes.seen(Scan, rows_of([1]))
        many = SimpleNamespace(batch=500)

        assert capacity.rows(Scan, [many], False, 5) == [10]  # type: ignore[list-item]
