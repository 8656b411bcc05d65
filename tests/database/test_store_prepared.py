"""Claims of a runner with little to do are prepared, where what is said to a session is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from django_fsmworker.store import Lane, Store, store_for
from django_fsmworker.store.postgresql import driver
from django_fsmworker.store.postgresql.driver import FEW, LITTLE_ROOM, SOON, KeptPlan
from tests.app.models import Noop
from tests.database.rows import LEASE

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of a runner that hears hints and has just found nothing."""
    monkeypatch.setattr(driver, "SOON", 60)  # on a busy machine, too
    store = store_for("default")
    store.keeps_sessions(lambda: True)
    connection.close()
    assert claimed(store) == []
    return store


def claimed(store: Store, limit: int = 20) -> list[Any]:
    return [row.pk for row in store.claim(Noop, [Lane("new", limit)], LEASE)]


def prepared() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements ORDER BY prepare_time")
        return [statement for (statement,) in cursor.fetchall()]


@pytest.fixture
def elsewhere() -> Callable[[str], None]:
    """Another connection, of which the driver of this one does not know."""

    def execute(sql: str) -> None:
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute(sql)
        other.close()

    return execute


def test_one_statement_for_all_small_claims(store: Store) -> None:
    for _ in range(8):  # from the sixth on by one plan for all
        row = Noop.objects.create()
        assert claimed(store) == [row.pk]

    (statement,) = prepared()
    assert 'UPDATE "tests_noop"' in statement


def test_nothing_where_no_session_lasts(store: Store) -> None:
    store.keeps_sessions(lambda: False)
    Noop.objects.create()

    assert len(claimed(store)) == 1
    assert prepared() == []


def test_nothing_in_somebody_s_transaction(store: Store) -> None:
    Noop.objects.create()
    with transaction.atomic():
        assert len(claimed(store)) == 1

    assert prepared() == []


def test_a_server_that_has_forgotten_it(store: Store) -> None:
    """Or another one, behind a pooler that was put between. The driver does not know."""
    assert claimed(store) == []
    assert len(prepared()) == 1
    with connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
    row = Noop.objects.create()

    assert claimed(store) == [row.pk]
    assert prepared() == []
    assert claimed(store) == []
    assert len(prepared()) == 1


def test_a_table_that_has_changed(store: Store, elsewhere: Callable[[str], None]) -> None:
    for _ in range(2):
        assert claimed(store) == []
    row = Noop.objects.create()
    try:
        elsewhere("ALTER TABLE tests_noop ALTER state_failures TYPE integer")
        assert claimed(store) == [row.pk]
        assert claimed(store) == []
        assert len(prepared()) == 2
    finally:
        elsewhere("ALTER TABLE tests_noop ALTER state_failures TYPE smallint")


class TestWhen:
    @pytest.fixture
    def plan(self) -> KeptPlan:
        plan = KeptPlan()
        plan.took(seconds=0.001, found=1)
        return plan

    def test_after_a_claim_that_found_little(self, plan: KeptPlan) -> None:
        assert not KeptPlan().suits([Lane("new", 20)])
        assert plan.suits([Lane("new", 20)])

    def test_many_rows_are_claimed_by_an_ordinary_statement(self, plan: KeptPlan) -> None:
        assert plan.suits([Lane("new", LITTLE_ROOM // 2)] * 2)
        assert not plan.suits([Lane("new", LITTLE_ROOM // 2)] * 3)

    def test_after_many_rows_the_next_claim_is_an_ordinary_statement(self, plan: KeptPlan) -> None:
        plan.took(seconds=0.001, found=FEW + 1)

        assert not plan.suits([Lane("new", 20)])

    def test_a_slow_one_is_planned_anew(self, plan: KeptPlan) -> None:
        before = plan.versioned("SELECT")
        plan.took(seconds=2 * SOON, found=1)

        assert not plan.suits([Lane("new", 20)])
        plan.took(seconds=0.001, found=1)
        assert plan.suits([Lane("new", 20)])
        assert plan.versioned("SELECT") != before
