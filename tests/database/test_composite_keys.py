"""Keys of several columns: every statement matches all of them, and locks in their order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from django_fsmworker import clock
from django_fsmworker.models import FailureRecord
from django_fsmworker.models.keys import row_key
from django_fsmworker.runner.stranded import rescue_stranded
from django_fsmworker.store import Lane, store_for
from django_fsmworker.store.expiry import expire
from django_fsmworker.store.failures import Failure, record
from tests.app.models import CompositeKind, KindStates
from tests.database.plans import explained, renew_files
from tests.database.rows import LEASE, claim, fence, fetch, moved, statements

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


def test_settling_moves_just_the_rows_named(store, rows):
    some = rows[::3]

    assert store.settle(CompositeKind, [moved(row, "done") for row in some]) == {
        row.pk for row in some
    }
    assert set(CompositeKind.objects.filter(state="done")) == set(some)


def test_advancing_claims_just_the_rows_named_again(store, rows):
    some = rows[::3]

    again = store.advance(CompositeKind, [moved(row, "new") for row in some], LEASE)

    assert {row.pk for row in again} == {row.pk for row in some}
    assert {row.state_claim for row in again} == {fetch(row).state_claim for row in some}


@pytest.mark.parametrize(
    ("verb", "more"), [("renew", [LEASE]), ("hand_back", []), ("still_held", [])]
)
def test_holds_are_found_by_key(store, rows, verb, more):
    some = rows[::3]

    held = getattr(store, verb)(CompositeKind, [fence(row) for row in some], *more)

    assert held == {row.pk for row in some}


class TestManyAtOnce:
    """More than Django writes into one list, and more than SQLite takes in one expression."""

    MANY = 1200

    @pytest.fixture(autouse=True)
    def many(self):
        keys = [(number % 7, f"code {number}") for number in range(self.MANY)]
        return CompositeKind.objects.bulk_create([CompositeKind(pk=key) for key in keys])

    def test_a_queryset_of_many_is_moved(self):
        assert CompositeKind.state_transition_queryset(CompositeKind.objects.all(), "done") == 1200
        assert CompositeKind.objects.filter(state="done").count() == 1200

    def test_a_slice_of_many_is_moved(self):
        some = CompositeKind.objects.order_by("pk")[:1100]

        assert CompositeKind.state_transition_queryset(some, "done") == 1100

    def test_many_expire_up_to_the_limit(self, store):
        long_ago = clock.now() - timedelta(days=1)
        CompositeKind.objects.update(state="done", state_changed=long_ago)

        expired = expire(store, CompositeKind, KindStates.done, 1150, (), "worker")

        assert len(expired.deleted) == 1150
        assert CompositeKind.objects.count() == 50

    def test_deleted_beside_many_that_were_refused(self, store, many):
        long_ago = clock.now() - timedelta(days=1)
        CompositeKind.objects.update(state="done", state_changed=long_ago)
        refused = {row.pk for row in many[:1150]}

        expired = expire(store, CompositeKind, KindStates.done, 1150, refused, "worker")

        assert set(expired.deleted) == {row.pk for row in many[1150:]}

    def test_many_stranded_rows_are_rescued(self, store):
        CompositeKind.objects.update(state_next=None)

        rescue_stranded({CompositeKind: store})

        assert CompositeKind.objects.due().count() == 1200


def test_records_spell_a_key_as_json(rows):
    record("default", CompositeKind, [(rows[0].pk, "new", Failure("E", "no"))], "worker")
    record("default", CompositeKind, [(rows[0].pk, "new", Failure("E", "no"))], "worker")

    entry = FailureRecord.objects.get()

    tenant, code = rows[0].pk
    assert (entry.row, entry.count) == (row_key((tenant, code)), 2)
    assert row_key((7, 'a"é')) == '[7, "a\\"é"]'
    assert row_key((7, "1")) != row_key((71, ""))
    assert len(row_key((7, "x" * 400))) == 255


class TestPlans:
    def fill(self, number: int) -> None:
        rows = (CompositeKind(pk=(n % 100, f"code {n}")) for n in range(number))
        CompositeKind.objects.bulk_create(rows, batch_size=5000)

    def fill_by_the_database(self, number: int) -> None:
        """Many that are like one."""
        self.fill(1)
        columns = [field.column for field in CompositeKind._meta.concrete_fields]
        same = ", ".join(f'"{each}"' for each in columns if each not in ("tenant", "code"))
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO tests_compositekind (tenant, code, {same}) "
                f"SELECT n %% 100, 'code ' || n, {same} "
                "FROM tests_compositekind, generate_series(1, %s) AS n",
                [number - 1],
            )

    @pytest.mark.postgresql
    @pytest.mark.parametrize("analysed", [False, True])
    @pytest.mark.parametrize("size", [10, 1000])
    def test_postgresql_reaches_rows_by_their_key(self, store, size, analysed):
        renew_files(CompositeKind)
        self.fill_by_the_database(20_000)
        if analysed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE tests_compositekind")
        held = store.claim(CompositeKind, [Lane("new", size)], LEASE)
        assert len(held) == size
        outcomes = [moved(row, "done") for row in held]
        fences = [fence(row) for row in held]

        for function, arguments in (
            (store.settle, [outcomes]),
            (store.renew, [fences, LEASE]),
            (store.hand_back, [fences]),
            (store.still_held, [fences]),
        ):
            plan = explained(function, CompositeKind, *arguments)

            # Which of them it is depends on what the planner knows; the index is what counts.
            assert plan.scans <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Tid Scan"}
            assert plan.indexes == {"tests_compositekind_pkey"}
            assert plan.root["Actual Rows"] == size
            assert plan.buffers <= 20 + 25 * size  # measured: up to 20.2 a row

    @pytest.mark.sqlite
    def test_sqlite_reaches_rows_by_their_key(self, store):
        self.fill(100)
        held = claim(CompositeKind)
        fences = [fence(row) for row in held]

        for function, arguments in (
            (store.settle, [[moved(row, "done") for row in held]]),
            (store.renew, [fences, LEASE]),
            (store.hand_back, [fences]),
            (store.still_held, [fences]),
        ):
            steps = self.steps(function, CompositeKind, *arguments)

            assert len(steps) == 1
            assert steps[0].endswith("(tenant=? AND code=?)")

    @pytest.mark.sqlite
    def test_sqlite_claims_by_row_id(self, store):
        self.fill(100)

        steps = self.steps(store.claim, CompositeKind, [Lane("new", 10)], LEASE)

        assert steps[0].endswith("USING INTEGER PRIMARY KEY (rowid=?)")
        assert steps[1].endswith("_due (state=? AND state_next>? AND state_next<?)")

    def steps(self, function: Any, *arguments: Any) -> list[str]:
        """How the table is reached by the one statement that ``function`` sends."""
        with statements() as sent:
            function(*arguments)
        ((sql, params),) = sent
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
            return [step for *_, step in cursor.fetchall() if "tests_compositekind" in step]
