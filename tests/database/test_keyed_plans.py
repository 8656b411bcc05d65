"""What a claim by keys reads, with many due rows of one key."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from django_fsmworker.store import Lane, store_for
from django_fsmworker.store.tables import table_for
from tests.app.models import Parcel
from tests.database.plans import explained, renew_files
from tests.database.rows import LEASE

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db]

MANY = 100_000


@pytest.fixture
def many(request: pytest.FixtureRequest) -> None:
    """A flood of one key, and some rows of others beyond it."""
    renew_files(Parcel)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tests_parcel (state, state_next, carrier, rank, mode, seconds)"
            " SELECT 'fair', now() - interval '1 hour', 1, 0, 'send', 0"
            " FROM generate_series(1, %s)",
            [MANY],
        )
        cursor.execute(
            "INSERT INTO tests_parcel (state, state_next, carrier, rank, mode, seconds)"
            " SELECT 'fair', now() - interval '1 second', key, 0, 'send', 0"
            " FROM generate_series(2, 11) AS key"
        )


def indexes(plan: Any) -> set[str]:
    return {name.rsplit("_", 1)[-1] for name in plan.indexes}


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_flood_of_one_key_costs_a_look_for_keys_nothing(many: None, analyzed: bool) -> None:
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE tests_parcel")
    store: Any = store_for("default")
    table = table_for(Parcel, store.alias)

    plan = explained(store._due_keys, table, "fair", "carrier", None, 100)

    assert plan.root["Actual Rows"] == 11
    assert indexes(plan) == {"key"}
    assert plan.buffers <= 100


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("key", [1, 7])
def test_a_claim_reads_its_own_key_s_rows_only(many: None, analyzed: bool, key: int) -> None:
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE tests_parcel")
    store = store_for("default")

    plan = explained(store.claim, Parcel, [Lane("fair", 10, key=("carrier", key))], LEASE)

    found = 10 if key == 1 else 1
    assert plan.root["Actual Rows"] == found
    assert indexes(plan) == {"key"}
    assert plan.buffers <= 20 + 12 * found
