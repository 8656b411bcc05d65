"""Stranded rows are found while a runner runs, without reading the table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection

from django_fsmworker import clock
from django_fsmworker.runner import stranded
from django_fsmworker.runner.stranded import OLDER, rescue_stranded
from django_fsmworker.store import store_for
from tests.app.models import Chain, Noop
from tests.database.plans import explained, renew_files
from tests.runner.embedded import Embedded
from tests.runner.rows import entered, fresh

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 20_000


def strand(row: Any, seconds_ago: float) -> Any:
    """As a process with an older graph leaves a row that it moved."""
    type(row).objects.filter(pk=row.pk).update(state_next=None)
    entered(row, seconds_ago)
    return row


def test_while_a_runner_runs(
    start_runner: Callable[..., Embedded],
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(stranded, "INTERVAL", 0.2)
    runner = start_runner(Noop)
    eventually(lambda: runner.runner.status().rounds)
    row = Noop.objects.create(state="done")
    Noop.objects.filter(pk=row.pk).update(state="new")
    entered(row, OLDER + 1)

    eventually(lambda: fresh(row).state == "done")

    assert [message for message in caplog.messages if "in an automatic state" in message] == [
        "1 rows of tests.Noop were in an automatic state with nothing due; they are due now."
    ]


def test_what_has_not_been_so_for_long_is_left_alone() -> None:
    """A process that is about to be replaced knows an older graph."""
    old = strand(Noop.objects.create(), OLDER + 1)
    young = strand(Noop.objects.create(), OLDER - 60)

    assert rescue_stranded({Noop: store_for("default")}, OLDER) == [Noop]
    assert fresh(old).state_next is not None
    assert fresh(young).state_next is None

    assert rescue_stranded({Noop: store_for("default")}) == [Noop]
    assert fresh(young).state_next is not None


def test_a_look_that_took_long_is_not_repeated_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is not there yet, and the table was read."""
    ticks = iter([1000.0, 1061.0, 1063.0])
    monkeypatch.setattr(stranded, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    looks = stranded.StrandedRows({Noop: store_for("default")}, lambda model: None)

    looks.look("default", skip=lambda model: False)

    assert looks.due_at == 1061 + 2 * stranded.REST


class TestCost:
    @pytest.fixture(autouse=True)
    def new_files(self, vendor: str) -> None:
        if vendor == "postgresql":
            renew_files(Chain)

    @pytest.fixture
    def history(self) -> None:
        start = clock.now() - timedelta(days=1)
        rows = (
            Chain(state="last", state_next=None, state_changed=start, logged=False)
            for _ in range(MANY)
        )
        Chain.objects.bulk_create(rows, batch_size=10_000)

    @pytest.mark.postgresql
    def test_few_buffers_behind_many_rows_at_rest(self, history: None) -> None:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE tests_chain")

        plan = explained(store_for("default").with_stranded_rows, [Chain])

        assert plan.buffers <= 5
        assert any(name.endswith("_stranded") for name in plan.indexes)
        assert not store_for("default").with_stranded_rows([Chain])

    @pytest.mark.sqlite
    def test_sqlite_reads_the_index(self) -> None:
        from tests.database.test_sqlite_plans import plan

        steps = plan(store_for("default").with_stranded_rows, [Chain])

        assert steps
        assert all("_stranded" in step for step in steps), steps

    @pytest.mark.postgresql
    def test_a_row_at_rest_is_not_in_the_index(self) -> None:
        sizes = (
            "SELECT pg_relation_size(indexrelid) FROM pg_stat_user_indexes "
            "WHERE indexrelname LIKE 'tests_chain%%_stranded'"
        )
        Chain.objects.bulk_create(Chain(logged=False) for _ in range(500))
        Chain.objects.update(state="last", state_next=None)

        with connection.cursor() as cursor:
            cursor.execute(sizes, [])
            (size,) = cursor.fetchone()

        assert size <= 8192, "its root page"
