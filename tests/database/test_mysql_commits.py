"""A connection that is lost under a commit: what was committed is known by its token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection

from django_fsmworker.store import Lane, store_for
from django_fsmworker.store.errors import is_outage
from testapp.models import Chain
from tests.database.rows import LEASE, claim, moved
from tests.runner.server import MySQLServer

pytestmark = [pytest.mark.mysql, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def store():
    return store_for("default")


@pytest.fixture
def server() -> Iterator[MySQLServer]:
    server = MySQLServer()
    yield server
    server.close()
    connection.close()


@contextmanager
def ended(server: MySQLServer, before: bool, away: bool = False) -> Iterator[None]:
    """The connection ends at the next commit: before it, or before its answer.

    With ``away`` there is no other one before the end of the ``with`` block.
    """

    def end(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql != "COMMIT":
            return execute(sql, params, many, context)
        if not before:
            execute(sql, params, many, context)
        if away:
            stack.enter_context(server.away())
        else:
            server.end_all_connections()
        return execute("SELECT 1", params, many, context)

    connection.ensure_connection()
    with ExitStack() as stack, connection.execute_wrapper(end):
        yield


class TestClaim:
    def test_committed(self, store, server):
        rows = Chain.objects.bulk_create(Chain() for _ in range(3))

        with ended(server, before=False):
            found = store.claim(Chain, [Lane("first", 10)], LEASE)

        assert {row.pk for row in found} == {row.pk for row in rows}
        assert Chain.objects.running().count() == 3
        assert {row.state_claim for row in found} == set(
            Chain.objects.values_list("state_claim", flat=True)
        )

    def test_committed_and_then_away(self, store, server):
        rows = Chain.objects.bulk_create(Chain() for _ in range(3))

        with ended(server, before=False, away=True), pytest.raises(OperationalError) as caught:
            store.claim(Chain, [Lane("first", 10)], LEASE)
        assert is_outage(caught.value)
        assert Chain.objects.running().count() == 3

        assert store.peek({Chain: [Lane("first", 1)]})[Chain, "first"] <= 0
        found = store.claim(Chain, [Lane("first", 10)], LEASE)
        assert {row.pk for row in found} == {row.pk for row in rows}
        assert {row.state_failures for row in found} == {0}

    def test_not_committed(self, store, server):
        Chain.objects.create()

        with ended(server, before=True), pytest.raises(OperationalError) as caught:
            store.claim(Chain, [Lane("first", 10)], LEASE)

        assert is_outage(caught.value)
        assert not Chain.objects.running().exists()


class TestAdvance:
    @pytest.fixture
    def rows(self):
        Chain.objects.bulk_create(Chain() for _ in range(3))
        return claim(Chain)

    def test_committed(self, store, server, rows):
        with ended(server, before=False):
            found = store.advance(Chain, [moved(row, "second") for row in rows], LEASE)

        assert {(row.pk, row.state) for row in found} == {(row.pk, "second") for row in rows}
        assert {row.state_claim for row in found} == set(
            Chain.objects.values_list("state_claim", flat=True)
        )

    def test_committed_and_then_away(self, store, server, rows):
        with ended(server, before=False, away=True), pytest.raises(OperationalError) as caught:
            store.advance(Chain, [moved(row, "second") for row in rows], LEASE)
        assert is_outage(caught.value)
        assert Chain.objects.in_state("second").running().count() == 3

        found = store.claim(Chain, [Lane("second", 10)], LEASE)
        assert {row.pk for row in found} == {row.pk for row in rows}

    def test_not_committed(self, store, server, rows):
        with ended(server, before=True), pytest.raises(OperationalError) as caught:
            store.advance(Chain, [moved(row, "second") for row in rows], LEASE)

        assert is_outage(caught.value)
        assert set(Chain.objects.values_list("state", flat=True)) == {"first"}
