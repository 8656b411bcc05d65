"""How much runs at once, how much is claimed, and who comes next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.runner.claiming.lanes import Prefetch
from django_fsmworker.runner.claiming.row_sizes import MEGABYTE
from tests.app.models import Chain, CheckLog, Noop, NoopStates, Trouble
from tests.runner.embedded import Embedded, one_pass

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]


class Meter:
    """How many checks ran at once, at the most.

    The first wait for one another until ``expected`` run: a busy machine may wake one thread after
    the other, each when the last has ended.
    """

    def __init__(self, pause: float) -> None:
        self.expected = 0
        self._pause = pause
        self._changed = threading.Condition()
        self._now = 0
        self.most = 0

    def __call__(self, row: Any) -> str:
        with self._changed:
            self._now += 1
            self.most = max(self.most, self._now)
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self.most >= self.expected, 10):
                self.expected = 0
        time.sleep(self._pause)
        with self._changed:
            self._now -= 1
        return "done"


@pytest.fixture
def meter(mode: Callable[..., None]) -> Meter:
    meter = Meter(0.01)
    mode("meter", meter)
    return meter


def metered(number: int) -> list[Trouble]:
    return Trouble.objects.bulk_create(Trouble(mode="meter") for _ in range(number))


class TestConcurrency:
    def test_so_many_checks_run_at_once_and_no_more(self, meter: Meter) -> None:
        metered(60)
        meter.expected = 3

        one_pass(Trouble, concurrency=3)

        assert meter.most == 3

    def test_a_model_s_cap_is_about_what_runs(self, meter: Meter) -> None:
        metered(60)
        meter.expected = 2

        one_pass(Trouble, concurrency=5, concurrency_per_model=2)

        assert meter.most == 2
        assert not Trouble.objects.exclude(state="done").exists()

    def test_a_capped_model_leaves_the_other_threads_to_the_others(
        self, start_runner: Start, eventually: Eventually, mode: Callable[..., None]
    ) -> None:
        released = threading.Event()

        def block(row: Trouble) -> str:
            released.wait(60)
            return "done"

        mode("block", block)
        Trouble.objects.bulk_create(Trouble(mode="block") for _ in range(20))
        start_runner(Trouble, Noop, concurrency=3, concurrency_per_model=2, deadline=60)
        eventually(lambda: Trouble.objects.running().exists())

        Noop.objects.bulk_create(Noop() for _ in range(20))
        eventually(lambda: not Noop.objects.exclude(state="done").exists())

        assert not Trouble.objects.filter(state="done").exists()
        released.set()


class TestTurns:
    def test_a_model_with_few_rows_does_not_wait_for_one_with_many(
        self, start_runner: Start, eventually: Eventually, meter: Meter
    ) -> None:
        metered(600)
        start_runner(Trouble, Noop, concurrency=2)
        eventually(lambda: Trouble.objects.filter(state="done").exists())

        Noop.objects.bulk_create(Noop() for _ in range(10))
        at_most = Trouble.objects.filter(state="done").count() + 300
        eventually(lambda: not Noop.objects.exclude(state="done").exists())

        last = Noop.objects.latest("state_changed").state_changed
        assert Trouble.objects.filter(state="done", state_changed__lt=last).count() < at_most

    def test_a_state_with_few_rows_does_not_wait_for_one_with_many(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        Chain.objects.bulk_create(Chain(pause=0.01) for _ in range(300))
        few = Chain.objects.bulk_create(Chain(pause=0.01, state="third") for _ in range(10))

        start_runner(Chain, concurrency=2)
        keys = [str(row.pk) for row in few]
        eventually(lambda: CheckLog.objects.filter(row__in=keys).count() == 10, 30)

        last = CheckLog.objects.filter(row__in=keys).latest("at").at
        assert CheckLog.objects.filter(state="first", at__lt=last).count() < 200

    def test_the_oldest_due_row_of_a_state_comes_first(self, mode: Callable[..., None]) -> None:
        order: list[int] = []

        def note(row: Trouble) -> str:
            order.append(row.pk)
            return "done"

        mode("note", note)
        rows = [Trouble.objects.create(mode="note") for _ in range(6)]
        for row, older in zip(rows, (3, 1, 5, 2, 4, 6), strict=True):
            assert row.state_next is not None
            Trouble.objects.filter(pk=row.pk).update(
                state_next=row.state_next
                - older * (row.state_next - row.state_next.replace(year=2020))
            )

        one_pass(Trouble, concurrency=1)

        assert order == [rows[index].pk for index in (5, 2, 4, 0, 3, 1)]


class TestInFlight:
    def test_no_more_rows_are_held_than_max_in_flight(
        self, start_runner: Start, eventually: Eventually, meter: Meter
    ) -> None:
        metered(150)
        most = 0

        def done() -> bool:
            nonlocal most
            most = max(most, Trouble.objects.running().count())
            return not Trouble.objects.exclude(state="done").exists()

        start_runner(Trouble, concurrency=2, max_in_flight=7)
        eventually(done, 60)

        assert 2 <= most <= 7

    def test_a_runner_that_is_busy_holds_little_more_than_it_runs(
        self, start_runner: Start, eventually: Eventually, held_check: Any
    ) -> None:
        Trouble.objects.bulk_create(Trouble(mode="held") for _ in range(100))

        start_runner(Trouble, concurrency=3)
        eventually(lambda: len(held_check.begun) == 3)

        assert 3 <= Trouble.objects.running().count() <= 6


class TestMemory:
    @pytest.fixture
    def scan(self) -> Iterator[Any]:
        """A model whose rows may hold much."""
        with isolate_apps("tests.app"):

            class Scan(StatorModel):
                state = StateField(NoopStates)
                image = models.BinaryField()

                class Meta:
                    app_label = "tests"

                def __str__(self) -> str:
                    return f"scan {self.pk}"

        with connection.schema_editor() as editor:
            editor.create_model(Scan)
        yield Scan
        with connection.schema_editor() as editor:
            editor.delete_model(Scan)

    @pytest.mark.parametrize(("megabytes", "least", "most"), [(12, 5, 13), (0, 20, 30)])
    def test_no_more_is_held_than_max_in_flight_megabytes(
        self,
        start_runner: Start,
        eventually: Eventually,
        scan: Any,
        monkeypatch: pytest.MonkeyPatch,
        megabytes: int,
        least: int,
        most: int,
    ) -> None:
        """Of rows of a megabyte; without the bound as many as usual."""
        monkeypatch.setattr(Prefetch, "measured", lambda self, settled: None)
        held: list[int] = []

        def check(states: Any, row: Any) -> Any:
            held.append(len(runner.runner.parts.in_flight))
            return states.done

        monkeypatch.setattr(NoopStates, "check_new", classmethod(check))
        for _ in range(30):
            scan.objects.create(image=bytes(MEGABYTE))

        runner = start_runner(scan, concurrency=30, max_in_flight_megabytes=megabytes)
        eventually(lambda: not scan.objects.exclude(state="done").exists(), 60)
        runner.stop()  # before its table goes

        assert least <= max(held) <= most
