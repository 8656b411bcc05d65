"""Limited states: how many run at once, how often, whose turn it is."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from django_fsmworker.models import Permit
from django_fsmworker.runner.claiming import admission
from django_fsmworker.store import Store
from tests.app.models import Parcel, parcels
from tests.runner.embedded import Embedded, one_pass
from tests.runner.lone_claimer import LoneClaimer

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]


class Meter:
    """How many checks ran at once, at the most, and of each carrier.

    The first wait for one another until as many run as are ``expected``: a busy machine may wake
    one thread after the other, each when the last has ended.
    """

    def __init__(self) -> None:
        self.pause = 0.01
        self.expected: Counter[Any] = Counter()
        self._changed = threading.Condition()
        self._now: Counter[Any] = Counter()
        self.most: Counter[Any] = Counter()

    def __call__(self, row: Any) -> str:
        both = ("all", row.carrier)
        with self._changed:
            self._now.update(both)
            for each in both:
                self.most[each] = max(self.most[each], self._now[each])
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._has_come_to(both), 10):
                self.expected.clear()
        time.sleep(self.pause)
        with self._changed:
            self._now.subtract(both)
        return "sent"

    def _has_come_to(self, both: Iterable[Any]) -> bool:
        return all(self.most[each] >= self.expected[each] for each in both)


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``sending(check)``: parcels with the mode ``test`` run ``check(row)``."""
    return lambda check: monkeypatch.setitem(parcels.SENDING, "test", check)


@pytest.fixture
def meter(sending: Callable[..., None]) -> Meter:
    meter = Meter()
    sending(meter)
    return meter


def made(number: int, state: str, **fields: Any) -> list[Parcel]:
    fields = {"mode": "test", **fields}
    return Parcel.objects.bulk_create(Parcel(state=state, **fields) for _ in range(number))


def claimer(*states: str, room: int, **options: Any) -> LoneClaimer:
    """A claimer that looks into these lanes only."""
    claiming = LoneClaimer(Parcel, "sent", room=room, **options)
    for book in claiming.claimer.lanes.books(Parcel):
        book.active = book.state in states
    return claiming


def left() -> int:
    return Parcel.objects.exclude(state="sent").count()


class TestLimit:
    def test_so_many_run_at_once(self, meter: Meter) -> None:
        made(20, "limited")
        meter.expected["all"] = 2

        one_pass(Parcel)

        assert (left(), meter.most["all"]) == (0, 2)

    def test_other_states_are_not_held_up(self, meter: Meter) -> None:
        made(10, "limited")
        made(20, "plain", carrier=1)
        meter.expected.update({None: 2, 1: 3})

        one_pass(Parcel)

        assert left() == 0
        assert meter.most[None] == 2
        assert meter.most[1] > 2

    def test_each_key_has_its_own(self, meter: Meter) -> None:
        for carrier in (1, 2, None):
            made(10, "keyed", carrier=carrier)
        meter.expected.update({None: 2, 1: 2, 2: 2, "all": 3})

        one_pass(Parcel, concurrency=8)

        assert left() == 0
        assert [meter.most[carrier] for carrier in (1, 2, None)] == [2, 2, 2]
        assert meter.most["all"] > 2

    def test_runners_share_it(self, meter: Meter, start_runner: Start, eventually: Any) -> None:
        made(40, "limited")
        meter.expected["all"] = 2
        for _ in range(3):
            start_runner(Parcel)

        eventually(lambda: left() == 0, 30)

        assert meter.most["all"] == 2

    def test_permits_are_free_when_nothing_is_left(
        self, meter: Meter, start_runner: Start, eventually: Any
    ) -> None:
        made(4, "limited")
        start_runner(Parcel)

        eventually(lambda: left() == 0)

        eventually(lambda: set(Permit.objects.values_list("token", flat=True)) == {None})

    def test_a_row_that_does_not_run_on_into_it_waits_for_a_permit(self, meter: Meter) -> None:
        made(6, "broken", mode="limit")

        one_pass(Parcel)
        assert Parcel.objects.filter(state="limited").count() == 6
        Parcel.objects.update(mode="test")
        meter.expected["all"] = 2
        one_pass(Parcel)

        assert (left(), meter.most["all"]) == (0, 2)


class TestRate:
    def test_no_more_begin_than_it_allows(self, meter: Meter) -> None:
        made(8, "rated")
        began = time.monotonic()

        one_pass(Parcel)

        assert left() == 0
        assert time.monotonic() - began >= 0.45  # 3 at once, then one each tenth of a second

    def test_each_key_has_its_own(self, meter: Meter) -> None:
        for carrier in range(20):
            made(2, "metered", carrier=carrier)
        began = time.monotonic()

        claiming = claimer("metered", room=100)
        claimed = len(claiming.round()) + len(claiming.round())

        assert (claimed, left()) == (40, 0)
        assert time.monotonic() - began < 60


class TestTurns:
    def test_a_key_with_few_rows_has_its_turn_at_once(self) -> None:
        made(200, "fair", carrier=1)
        (rare,) = made(1, "fair", carrier=2)

        claiming = claimer("fair", room=20)

        assert rare.pk in claiming.round()

    def test_a_key_alone_has_all_the_room_but_a_rest(self) -> None:
        made(200, "fair", carrier=1)

        assert len(claimer("fair", room=20).round()) == 15

    def test_keys_take_turns_where_there_is_not_room_for_all(self) -> None:
        for carrier in range(5):
            made(4, "fair", carrier=carrier)
        claiming = claimer("fair", room=2)

        found = [claiming.round() for _ in range(5)]

        carriers = dict(Parcel.objects.values_list("pk", "carrier"))
        served = Counter(carriers[pk] for some in found for pk in some)
        assert served == dict.fromkeys(range(5), 2)

    def test_all_of_many_keys_are_served(self) -> None:
        rows = [Parcel(state="fair", carrier=carrier) for carrier in range(250)]
        Parcel.objects.bulk_create(rows)
        claiming = claimer("fair", room=40)

        for _ in range(10):
            claiming.round()

        assert left() == 0

    def test_a_heavy_key_has_more(self) -> None:
        for carrier in (1, parcels.HEAVY):
            made(20, "fair", carrier=carrier)

        found = claimer("fair", room=8).round()

        carriers = Counter(Parcel.objects.filter(pk__in=found).values_list("carrier", flat=True))
        assert carriers == {1: 2, parcels.HEAVY: 6}

    @pytest.mark.parametrize(("state", "looks"), [("keyed", 1), ("fair", 3)])
    def test_keys_that_all_have_more_rows_are_not_looked_for_before_each_claim(
        self, state: str, looks: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admission, "KEYS_KNOWN", 60.0)
        looked: list[Any] = []
        look = Store.due_keys

        def counted(*asked: Any) -> Any:
            looked.append(asked)
            return look(*asked)

        monkeypatch.setattr(Store, "due_keys", counted)
        for carrier in (1, 2):
            made(20, state, carrier=carrier)
        claiming = claimer(state, room=4)

        assert [len(claiming.round()) for _ in range(3)] == [4, 4, 4]
        assert len(looked) == looks

    def test_a_key_that_ran_out_of_rows_has_the_others_looked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admission, "KEYS_KNOWN", 60.0)
        made(3, "keyed", carrier=1)
        claiming = claimer("keyed", room=2)
        assert len(claiming.round()) == 2
        (late,) = made(1, "keyed", carrier=2)

        found = [pk for _ in range(3) for pk in claiming.round()]

        assert late.pk in found and left() == 0

    def test_nothing_is_asked_once_nothing_is_left(self) -> None:
        made(3, "fair", carrier=1)
        claiming = claimer("fair", room=8, poll_interval=600)

        while claiming.round():
            pass

        assert claiming.claimer.seconds_to_wait() > 1


class TestPriority:
    def test_the_highest_of_a_column_goes_first(self) -> None:
        for rank in (1, 9, 5, 9, 1):
            made(2, "ranked", rank=rank)
        claiming = claimer("ranked", room=2)

        found = [claiming.round() for _ in range(5)]

        ranks = dict(Parcel.objects.values_list("pk", "rank"))
        assert [ranks[pk] for some in found for pk in some] == [9, 9, 9, 9, 5, 5, 1, 1, 1, 1]

    def test_a_state_with_a_higher_one_goes_before_the_others(self) -> None:
        first = made(3, "plain")
        urgent = made(4, "urgent")
        claiming = claimer("plain", "urgent", room=2)

        found = [claiming.round() for _ in range(6)]

        assert set(found[0] + found[1]) == {row.pk for row in urgent}
        assert {pk for some in found[2:] for pk in some} == {row.pk for row in first}


class Holding:
    """A check that holds its row until it is released, and knows which rows are held."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.held: list[int] = []

    def __call__(self, row: Any) -> str:
        self.held.append(row.pk)
        self.released.wait(100)
        return "sent"


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> Any:
    holding = Holding()
    monkeypatch.setitem(parcels.SENDING, "held", holding)
    yield holding
    holding.released.set()


class TestShares:
    def test_a_state_whose_checks_hang_leaves_a_thread_to_the_others(
        self, holding: Holding, start_runner: Start, eventually: Any
    ) -> None:
        made(40, "plain", mode="held")
        start_runner(Parcel, deadline=100, concurrency=5)
        eventually(lambda: len(holding.held) == 4, 30)

        others = made(10, "limited", mode="send")

        eventually(lambda: Parcel.objects.filter(state="sent").count() == len(others), 30)
        assert len(holding.held) == 4

    def test_a_key_whose_checks_hang_leaves_threads_to_the_others(
        self, holding: Holding, start_runner: Start, eventually: Any
    ) -> None:
        made(40, "fair", carrier=1, mode="held")
        start_runner(Parcel, deadline=100, concurrency=8)
        eventually(lambda: len(holding.held) == 6, 30)

        others = made(10, "fair", carrier=2, mode="send")

        eventually(lambda: Parcel.objects.filter(state="sent").count() == len(others), 30)
        assert len(holding.held) == 6

    @pytest.mark.parametrize(
        ("hanging", "quick"),
        [(("plain", 0), ("limited", 0)), (("fair", 1), ("fair", 2)), (("fair", 1), ("plain", 0))],
        ids=["a state", "a key", "a key of a state"],
    )
    def test_what_was_claimed_for_more_is_given_back_once_the_checks_hang(
        self,
        holding: Holding,
        start_runner: Start,
        eventually: Any,
        hanging: tuple[str, int],
        quick: tuple[str, int],
    ) -> None:
        """Otherwise it would take the slots in which rows of others are claimed."""
        runner = start_runner(Parcel, concurrency=8, lease=60, deadline=100).runner
        prefetch = runner.parts.prefetch[False]
        prefetch.target = 60
        (state, carrier), (other, others_carrier) = hanging, quick
        made(60, state, carrier=carrier, mode="held")
        eventually(lambda: Parcel.objects.running().count() >= 40, 30)

        prefetch.target = 16
        others = made(10, other, carrier=others_carrier, mode="send")

        eventually(lambda: Parcel.objects.filter(state="sent").count() == len(others), 30)
        assert Parcel.objects.filter(state=state).count() == 60
        holding.released.set()
        eventually(lambda: left() == 0, 30)

    def test_a_state_with_a_share_never_has_more(
        self, holding: Holding, start_runner: Start, eventually: Any
    ) -> None:
        made(10, "small", mode="held")
        others = made(10, "plain", mode="send")
        start_runner(Parcel, deadline=100, concurrency=4)
        eventually(lambda: len(holding.held) == 2, 30)

        eventually(lambda: Parcel.objects.filter(state="sent").count() == len(others), 30)
        assert len(holding.held) == 2

        holding.released.set()
        eventually(lambda: left() == 0, 30)

    def test_a_state_whose_checks_are_quick_has_all_threads(
        self, meter: Meter, start_runner: Start, eventually: Any
    ) -> None:
        made(100, "plain")
        meter.pause = 0.03  # still quick

        one_pass(Parcel, concurrency=6)

        assert meter.most["all"] == 6
