"""How SQLite reaches the rows: by the index of due rows, or by their keys; never by a scan."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from django_fsmworker.store import store_for
from tests.app.models import Chain
from tests.database.rows import LEASE, claim, fence, lanes, moved, statements

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


def plan(function: Any, *arguments: Any) -> list[str]:
    """How the table is reached by the one statement that ``function`` sends."""
    with statements() as sent:
        function(*arguments)
    ((sql, params),) = sent
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
        steps = [step for *_, step in cursor.fetchall()]
    return [step for step in steps if "tests_chain" in step]


@pytest.fixture
def held() -> list[Any]:
    Chain.objects.bulk_create(Chain() for _ in range(100))
    return claim(Chain)


BY_LANE = "(state=? AND state_next>? AND state_next<?)"


def test_a_claim_reads_each_lane_from_the_index(held):
    steps = plan(store_for("default").claim, Chain, lanes(Chain), LEASE)

    assert [step for step in steps if "PRIMARY KEY" not in step] == [
        step for step in steps if "_due" in step and step.endswith(BY_LANE)
    ]
    assert len(steps) == len(Chain.state_graph.states) + 1


def test_a_peek_reads_each_lane_from_the_index(held):
    steps = plan(store_for("default").peek, {Chain: lanes(Chain)})

    assert len(steps) == len(Chain.state_graph.states)
    assert all("_due" in step and "(state=? AND state_next>?)" in step for step in steps)


@pytest.mark.parametrize(
    ("method", "of_row", "more"),
    [
        ("settle", lambda row: moved(row, "second"), []),
        ("renew", fence, [LEASE]),
        ("hand_back", fence, []),
        ("still_held", fence, []),
    ],
)
def test_held_rows_are_reached_by_row_id(held, method, of_row, more):
    function = getattr(store_for("default"), method)

    steps = plan(function, Chain, [of_row(row) for row in held], *more)

    assert len(steps) == 1
    assert "USING INTEGER PRIMARY KEY (rowid=?)" in steps[0]
