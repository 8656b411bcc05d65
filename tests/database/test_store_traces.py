"""The trace of what moves a row is written with the move, by the same statement."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import QuerySet

from django_fsmworker.models.records import TransitionRecord
from django_fsmworker.store import store_for
from tests.app.models import Traced
from tests.database.rows import LEASE, claim, fetch, moved, statements, stayed
from tests.runner.exported_spans import provide, request, traceparent

pytestmark = pytest.mark.django_db


def trace(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


@pytest.fixture
def rows() -> list[Any]:
    Traced.objects.bulk_create(Traced(state_trace=trace(9)) for _ in range(4))
    return sorted(claim(Traced), key=lambda row: row.pk)


def kept(rows: list[Any]) -> list[str]:
    return [fetch(row).state_trace for row in rows]


def test_each_row_that_is_moved_keeps_its_own(rows: list[Any], vendor: str) -> None:
    one, other, untraced, stays = rows
    outcomes = [
        moved(one, "done", trace=trace(1)),
        moved(other, "done", trace=trace(2)),
        moved(untraced, "done"),
        stayed(stays, trace=trace(4)),
    ]

    with statements() as sent:
        store_for("default").settle(Traced, outcomes)

    assert kept(rows) == [trace(1), trace(2), trace(9), trace(9)]
    # MariaDB and MySQL lock, and write rows that are moved and rows that stay one after the other.
    assert len(sent) == (3 if vendor == "mysql" else 1)


def test_so_do_rows_whose_moves_are_logged(
    rows: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Traced, "log_transitions", True)
    outcomes = [moved(row, "done", trace=trace(n)) for n, row in enumerate(rows[:2], 1)]

    store_for("default").settle(Traced, [*outcomes, moved(rows[2], "done")])

    assert kept(rows) == [trace(1), trace(2), trace(9), trace(9)]
    assert TransitionRecord.objects.count() == 3


def test_so_do_rows_that_run_on(rows: list[Any]) -> None:
    outcomes = [moved(row, "calm", trace=trace(1)) for row in rows[:2]]

    found = store_for("default").advance(Traced, outcomes, LEASE)

    assert [row.state_trace for row in found] == [trace(1)] * 2
    assert kept(rows) == [trace(1), trace(1), trace(9), trace(9)]


def test_one_that_is_moved_without_an_attempt_keeps_where_that_is_written(rows: list[Any]) -> None:
    provide()

    with request() as span:
        store_for("default").settle(
            Traced, [moved(rows[0], "done"), moved(rows[1], "done", trace=trace(1))]
        )

    assert kept(rows) == [traceparent(span), trace(1), trace(9), trace(9)]


def test_so_does_one_that_a_sweep_moves() -> None:
    provide()
    row = Traced.objects.create(state="guarded", mode="heavy", state_trace=trace(9))
    swept: QuerySet[Any] = QuerySet(Traced).filter(state="guarded")

    with request() as span:
        store_for("default").sweep(swept, Traced.state_graph.states["done"])

    assert fetch(row).state_trace == traceparent(span)
