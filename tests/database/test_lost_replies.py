"""A connection lost under a commit: what it claimed is not held until its lease runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, connection

from django_fsmworker.store import Lane, store_for
from django_fsmworker.store.errors import is_outage
from django_fsmworker.store.fence import taken_over
from tests.app.models import Chain
from tests.chaos.faults import lose
from tests.database.rows import LEASE, PAST, claim, fence, fetch, moved, put

pytestmark = pytest.mark.django_db(transaction=True)

FIRST = [Lane("first", 10)]


@pytest.fixture
def store() -> Any:
    return store_for("default")


@contextmanager
def lost(*, before: bool) -> Iterator[None]:
    """The next write fails: before it is committed, or when it is and the answer is on its way."""

    def execute(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        commits = sql == "COMMIT" if connection.vendor == "mysql" else "UPDATE" in sql
        if commits and before:
            lose(connection)
        result = execute(sql, params, many, context)
        if commits:
            lose(connection)
        return result

    connection.ensure_connection()
    with connection.execute_wrapper(execute):
        with pytest.raises((DatabaseError, InterfaceError)) as caught:
            yield
    assert is_outage(caught.value)
    connection.close()


class TestClaim:
    def test_one_that_was_committed_is_found_by_the_next(self, store: Any) -> None:
        rows = Chain.objects.bulk_create(Chain() for _ in range(3))

        with lost(before=False):
            store.claim(Chain, FIRST, LEASE)
        assert Chain.objects.running().count() == 3

        assert store.peek({Chain: FIRST})[Chain, "first"] <= 0
        found = store.claim(Chain, FIRST, LEASE)
        assert {row.pk for row in found} == {row.pk for row in rows}
        assert {row.state_failures for row in found} == {0}
        assert not any(taken_over(row.state_claim) for row in found)

    def test_a_suspect_stays_one(self, store: Any) -> None:
        row = Chain.objects.create()
        put(row, state_lease=PAST, state_claim=2)

        with lost(before=False):
            store.claim(Chain, FIRST, LEASE)
        (found,) = store.claim(Chain, FIRST, LEASE)

        assert taken_over(found.state_claim)
        assert found.state_failures == 1

    def test_after_one_that_was_not_committed_the_row_is_claimed(self, store: Any) -> None:
        row = Chain.objects.create()

        with lost(before=True):
            store.claim(Chain, FIRST, LEASE)

        assert not Chain.objects.running().exists()
        assert claim(Chain) == [row]

    def test_what_others_hold_stays_theirs(self, store: Any) -> None:
        Chain.objects.create()
        (theirs,) = claim(Chain)
        Chain.objects.create()

        with lost(before=False):
            store.claim(Chain, FIRST, LEASE)
        assert len(store.claim(Chain, FIRST, LEASE)) == 1

        assert store.still_held(Chain, [fence(theirs)]) == {theirs.pk}

    def test_it_looks_at_so_many_rows_and_no_more(
        self, store: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("django_fsmworker.store.fence.MOST_LOOKED_AT", 2)
        Chain.objects.bulk_create(Chain() for _ in range(3))

        with lost(before=False):
            store.claim(Chain, FIRST, LEASE)

        assert len(store.claim(Chain, FIRST, LEASE)) == 2
        assert store.claim(Chain, FIRST, LEASE) == []


class TestAdvance:
    @pytest.fixture
    def rows(self) -> list[Any]:
        Chain.objects.bulk_create(Chain() for _ in range(3))
        return claim(Chain)

    def test_one_that_was_committed_is_found_by_the_next_claim(
        self, store: Any, rows: list[Any]
    ) -> None:
        with lost(before=False):
            store.advance(Chain, [moved(row, "second") for row in rows], LEASE)
        assert Chain.objects.in_state("second").running().count() == 3

        found = store.claim(Chain, [Lane("second", 10)], LEASE)

        assert {row.pk for row in found} == {row.pk for row in rows}
        assert not any(taken_over(row.state_claim) for row in found)

    def test_one_that_was_not_committed_leaves_the_rows_held(
        self, store: Any, rows: list[Any]
    ) -> None:
        with lost(before=True):
            store.advance(Chain, [moved(row, "second") for row in rows], LEASE)

        assert set(Chain.objects.values_list("state", flat=True)) == {"first"}
        assert store.claim(Chain, FIRST, LEASE) == []
        assert {fetch(row).state_claim for row in rows} == {row.state_claim for row in rows}
