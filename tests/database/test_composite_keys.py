"""Keys of several columns: every statement matches all of them, and locks in their order."""

from __future__ import annotations

import pytest

from django_fsmworker.store import store_for
from testapp.models import CompositeKind
from tests.database.rows import LEASE, claim, fetch, hold, moved, statements

pytestmark = pytest.mark.django_db

CODES = ["it's", '["a"]', "100 %", "0", "null"]


@pytest.fixture
def store():
    return store_for("default")


@pytest.fixture
def rows():
    """Of each part of the key there is another row with the same."""
    keys = [(tenant, code) for tenant in (1, 2, -3) for code in CODES]
    CompositeKind.objects.bulk_create([CompositeKind(pk=key) for key in keys])
    found = claim(CompositeKind)
    assert {row.pk for row in found} == set(keys)
    return found


def test_claims_come_back_whole(rows):
    row = rows[0]

    assert row.pk == (row.tenant, row.code)
    assert fetch(row).state_claim == row.state_claim
    assert not row._state.adding


def test_settle(store, rows):
    some = rows[::3]

    assert store.settle(CompositeKind, [moved(row, "done") for row in some]) == {
        row.pk for row in some
    }
    assert set(CompositeKind.objects.filter(state="done")) == set(some)


def test_advance(store, rows):
    some = rows[::3]

    again = store.advance(CompositeKind, [moved(row, "new") for row in some], LEASE)

    assert {row.pk for row in again} == {row.pk for row in some}
    assert {row.state_claim for row in again} == {fetch(row).state_claim for row in some}


@pytest.mark.parametrize(
    ("verb", "more"), [("renew", [LEASE]), ("hand_back", []), ("still_held", [])]
)
def test_holds(store, rows, verb, more):
    some = rows[::3]

    held = getattr(store, verb)(CompositeKind, [hold(row) for row in some], *more)

    assert held == {row.pk for row in some}


def test_in_one_statement(store, rows):
    with statements() as sent:
        store.settle(CompositeKind, [moved(row, "done") for row in rows])

    assert len(sent) == 1
