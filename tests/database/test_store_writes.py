"""What a claim, a settling and a renewal make PostgreSQL write: log, and entries of indexes.

Bytes and shares, not times: they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from django_fsmworker.store import Lane, store_for
from tests.database.plans import Plan, explained
from tests.database.rows import LEASE, fence, moved, stayed

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db]

SIZES = pytest.mark.parametrize("size", [10, 100, 1000])
ROWS = 5000

# Measured, in bytes a row: 140 for a claim in place, 417 to 496 for one that has to write the
# table's three indexes; up to 413 for a row that moves or stays, 429 for a renewal.
A_CLAIM_IN_PLACE, A_CLAIM, A_SETTLED_ROW, A_RENEWAL = 180, 560, 480, 500

OF_THE_USER = [
    "(text)",
    "(left(text, 5))",
    "(text, id)",
    "(text, state)",
    "(state, id)",
    "(state_changed, id)",
]


@pytest.fixture
def store():
    return store_for("default")


@pytest.fixture
def model(table: Callable[..., Any]) -> Any:
    table(ROWS)
    return table()


def execute(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def claim(store: Any, model: Any, size: int) -> list[Any]:
    rows: list[Any] = store.claim(model, [Lane("first", size)], LEASE)
    return rows


def logged(function: Any, *arguments: Any) -> Plan:
    """Its plan when no page was written whole, as the first change after a checkpoint does."""
    for _ in range(5):
        plan = explained(function, *arguments)
        if not plan.whole_pages:
            return plan
    raise AssertionError("each time, a checkpoint had just been")


class TestLog:
    """Bytes of write-ahead log a row."""

    @SIZES
    def test_a_claim_writes_so_many_bytes_a_row(self, store, model, size):
        plan = logged(store.claim, model, [Lane("first", size)], LEASE)

        assert plan.wal <= A_CLAIM * size

    @SIZES
    def test_a_claim_in_place_writes_less(self, store, table, size):
        execute("ALTER TABLE testapp_planning SET (fillfactor = 40)")
        table(ROWS)

        plan = logged(store.claim, table(), [Lane("first", size)], LEASE)

        assert plan.wal <= A_CLAIM_IN_PLACE * size

    @SIZES
    def test_settling_a_moved_row_writes_so_many_bytes(self, store, model, size):
        held = claim(store, model, size)

        plan = logged(store.settle, model, [moved(row, "second") for row in held])

        assert plan.wal <= A_SETTLED_ROW * size

    @SIZES
    def test_settling_a_row_that_stayed_writes_so_many_bytes(self, store, model, size):
        held = claim(store, model, size)

        plan = logged(store.settle, model, [stayed(row) for row in held])

        assert plan.wal <= A_SETTLED_ROW * size

    @SIZES
    def test_a_renewal_writes_so_many_bytes(self, store, model, size):
        held = claim(store, model, size)

        plan = logged(store.renew, model, [fence(row) for row in held], LEASE)

        assert plan.wal <= A_RENEWAL * size

    def test_what_is_not_claimed_costs_nothing(self, store, model):
        execute("UPDATE testapp_planning SET state_next = state_next + interval '1 hour'")
        explained(store.claim, model, [Lane("first", 1000)], LEASE)

        plan = logged(store.claim, model, [Lane("first", 1000)], LEASE)

        assert plan.wal == 0


class TestInPlace:
    """HOT updates: no index entry is written, since lease, token and failures are in no index."""

    @pytest.mark.parametrize("indexes", [[], OF_THE_USER], ids=["no other index", "six indexes"])
    @pytest.mark.parametrize(
        ("filled", "scattered", "share"),
        [
            # A claim of neighbours writes a whole page again, which has to find room there.
            pytest.param(40, False, 1.0, id="neighbours with room"),
            pytest.param(70, False, 0.3, id="neighbours"),
            pytest.param(70, True, 1.0, id="scattered"),
        ],
    )
    def test_claims_are_written_in_place(self, store, table, filled, scattered, share, indexes):
        execute(f"ALTER TABLE testapp_planning SET (fillfactor = {filled})")
        table(ROWS, scattered=scattered)
        for columns in indexes:
            execute(f"CREATE INDEX ON testapp_planning {columns}")
        before = self.updates()

        claim(store, table(), 1000)

        updated, in_place = (now - then for now, then in zip(self.updates(), before, strict=True))
        assert updated == 1000
        assert in_place >= share * updated

    @staticmethod
    def updates() -> tuple[int, int]:
        (counts,) = execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables "
            "WHERE relname = 'testapp_planning'"
        )
        return counts[0], counts[1]
