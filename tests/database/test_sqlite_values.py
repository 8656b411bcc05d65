"""Timestamps of claimed rows are those that Django reads, however they are written."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import connection

from django_fsmworker import clock
from django_fsmworker.store import store_for
from django_fsmworker.store.sqlite import values
from django_fsmworker.store.tables import table_for
from tests.app.models import Chain, Noop
from tests.database.rows import claim, moved, stayed

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]

TIMESTAMPS = ("state_changed", "state_next", "state_lease")


def timestamps(row: Any) -> list[datetime]:
    return [getattr(row, name) for name in TIMESTAMPS]


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-29 02:30:00.123456",
        "2026-03-29 02:30:00",
        "2026-03-29T02:30:00",
        "2026-03-29 02:30",
        "2026-03-29 02:30:00+02:00",
        "2026-03-29 02:30:00Z",
        "2026-03-29",
    ],
)
def test_a_timestamp_in_whatever_format_is_the_one_that_django_reads(text):
    row = Noop.objects.create()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tests_noop SET state_changed = %s", [text])

    (claimed,) = claim(Noop)

    assert claimed.state_changed == Noop.objects.get(pk=row.pk).state_changed
    assert claimed.state_changed is not None


def test_all_are_aware_and_what_the_database_has():
    Noop.objects.create()

    (claimed,) = claim(Noop)

    assert timestamps(claimed) == timestamps(Noop.objects.get())
    assert {each.utcoffset() for each in timestamps(claimed)} == {timedelta(0)}


def test_a_moment_that_rows_have_in_common_is_read_once():
    now = clock.now()
    Noop.objects.bulk_create(Noop(state_changed=now, state_next=now) for _ in range(50))

    with mock.patch.object(values, "datetime", wraps=datetime) as reading:
        rows = claim(Noop)

    assert len(rows) == 50
    assert reading.fromisoformat.call_count == 2  # that one, and the end of the lease


def test_no_function_in_python_is_called_by_the_driver_for_a_column():
    assert "CAST" in values.returned(table_for(Noop, "default"))
    assert len(table_for(Noop, "default").timestamps) == len(TIMESTAMPS)


def test_outcomes_that_differ_in_anything_are_written_each_as_it_is():
    rows = Chain.objects.bulk_create(Chain() for _ in range(6))
    one, two, three, four, five, six = claim(Chain)
    outcomes = [
        moved(one, "second"),
        moved(two, "third"),
        stayed(three, 60.0),
        stayed(four, 600.0),
        stayed(five, 60.0, failures=3),
        moved(six, "second"),
    ]

    assert store_for("default").settle(Chain, outcomes) == {row.pk for row in rows}

    found = list(Chain.objects.order_by("pk"))
    assert [row.state for row in found] == ["second", "third", "first", "first", "first", "second"]
    assert [row.state_failures for row in found] == [0, 0, 0, 0, 3, 0]
    due = [row.state_next for row in found[2:5] if row.state_next is not None]
    waits = [round((moment - clock.now()).total_seconds(), -1) for moment in due]
    assert waits == [60, 600, 60]
    assert len({row.state_claim for row in found}) == 1
