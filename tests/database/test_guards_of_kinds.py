"""Guards of every kind of model: whatever its key, and in whichever table its columns are."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Q

from django_fsmworker.models.keys import key_of
from django_fsmworker.store import store_for
from django_fsmworker.store.guards import fault_of
from django_fsmworker.store.sweeps import movable, rows_in
from django_fsmworker.testing import run_until_idle, step
from tests.app.models.kinds import KindStates
from tests.database.sweeps import guard, windows
from tests.model_kinds import KindOfModel, every_kind

pytestmark = [pytest.mark.django_db(databases=["default", "other"]), every_kind]

NEW, STUCK, DONE = KindStates.new, KindStates.stuck, KindStates.done
WISHES_TO_STAY = Q(wish="stay")


@pytest.fixture(autouse=True)
def routers(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.ByModel"]


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in ``new`` that wish to stay are done, before their check is run."""
    monkeypatch.setitem(NEW.node.__dict__, "guards", (guard(WISHES_TO_STAY, NEW, DONE),))


@pytest.mark.parametrize("others", [0, 1])
def test_the_first_true_guard_is_found_for_each_key(kind: KindOfModel, others: int) -> None:
    rows = [kind.row(number, wish="stay" if number % 2 else "fail") for number in range(4)]
    guards = [guard(Q(wish="none of it"), NEW, DONE)] * others + [guard(WISHES_TO_STAY, NEW, DONE)]

    found = store_for(kind.using).first_true(kind.runs, guards, [key_of(row) for row in rows])

    assert found == {key_of(row): guards[-1] for row in rows[1::2]}


def test_a_sweep_moves_the_rows_its_guard_is_true_of(kind: KindOfModel) -> None:
    for number in range(7):
        kind.row(number, wish="stay" if number % 3 else "fail")
    rows = rows_in(kind.runs, NEW, kind.using)
    edge = guard(WISHES_TO_STAY, NEW, DONE)
    wanted = {row.pk for row in kind.rows().filter(WISHES_TO_STAY)}

    moved = [
        store_for(kind.using).sweep(movable(window.of(rows), edge), DONE)
        for window in windows(rows, 3)
    ]

    assert len(moved) == 3
    assert set().union(*moved) == wanted
    assert {row.pk for row in kind.rows().filter(state="done")} == wanted
    assert len(wanted) == 4


def test_a_window_is_halved_by_key(kind: KindOfModel) -> None:
    for number in range(5):
        kind.row(number)
    rows, store = rows_in(kind.runs, NEW, kind.using), store_for(kind.using)
    (window,) = windows(rows, 10)

    halves = window.halves(store, rows)

    assert [half.of(rows).count() for half in halves] == [2, 3]


def test_the_guard_has_no_fault(kind: KindOfModel) -> None:
    assert fault_of(guard(WISHES_TO_STAY, NEW, DONE), kind.runs, kind.using) is None


def test_before_the_check_of_a_row_s_own_verb(kind: KindOfModel, guarded: None) -> None:
    rows = [kind.row(number, wish=wish) for number, wish in enumerate(["stay", "stuck"])]

    assert [row.state_transition_check() for row in rows] == [DONE, STUCK]


def test_before_the_check_in_a_test(kind: KindOfModel, guarded: None) -> None:
    rows = [kind.row(number, wish=wish) for number, wish in enumerate(["stay", "stay", "stuck"])]

    assert step(rows[0]) is DONE
    run_until_idle(kind.runs, raise_failures=False)

    assert [kind.stored(row).state for row in rows] == ["done", "done", "stuck"]
