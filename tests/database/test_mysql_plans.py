"""How MariaDB and MySQL reach the rows: what is read, and what is locked on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from django_fsmworker.store import Lane, store_for
from tests.app.models import Chain, Noop
from tests.database.rows import LEASE, claim, fence, moved, statements, stayed, timed

pytestmark = [pytest.mark.mysql, pytest.mark.django_db(transaction=True)]

MANY = 20_000


@pytest.fixture
def store():
    return store_for("default")


def fill(number: int, state: str = "new", due: int = 0, held: bool = False) -> None:
    """Rows that have been due for ``due`` seconds (below zero: will be)."""
    lease = "UTC_TIMESTAMP(6) + INTERVAL 1 HOUR" if held else "NULL"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO tests_noop (state, state_next, state_lease, state_claim)
            WITH RECURSIVE numbers (n) AS (
                SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %s)
            SELECT %s, UTC_TIMESTAMP(6) - INTERVAL %s SECOND - INTERVAL n MICROSECOND, {lease}, 4
            FROM numbers
            """,
            [number, state, due],
        )


@pytest.fixture(params=[True, False], ids=["analysed", "not analysed"])
def table(request) -> Callable[..., None]:
    """``table()`` when it is full."""

    def full() -> None:
        if request.param:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE TABLE tests_noop")
                cursor.fetchall()

    with connection.cursor() as cursor:
        cursor.execute("SET SESSION cte_max_recursion_depth = 100000") if not is_mariadb() else None
        cursor.execute("SET SESSION max_recursive_iterations = 100000") if is_mariadb() else None
    return full


def is_mariadb() -> bool:
    return bool(connection.mysql_is_mariadb)  # type: ignore[attr-defined]


def rows_read(function: Any, *arguments: Any) -> int:
    """How many index entries and rows the storage engine was asked for."""
    with connection.cursor() as cursor:
        cursor.execute("FLUSH STATUS")
    function(*arguments)
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%%'")
        read = {name: int(number) for name, number in cursor.fetchall()}
    return sum(read[f"Handler_read_{how}"] for how in ("first", "key", "next", "prev", "rnd"))


def indexes_used(function: Any, *arguments: Any) -> set[str]:
    """The indexes by which the table is reached, in all statements; "" for none."""
    with statements() as sent:
        function(*arguments)
    used: set[str] = set()
    for sql, params in sent:
        if sql.strip().startswith(("SELECT", "(", "UPDATE")):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {sql}", params)
                names = [column[0] for column in cursor.description]
                for values in cursor.fetchall():
                    step = dict(zip(names, values, strict=True))
                    if step["table"] == "tests_noop":
                        used.add(step["key"] or "")
    return used


class TestClaim:
    def test_reads_the_rows_it_takes(self, store, table):
        fill(MANY, due=60)
        fill(MANY, due=-3600)
        fill(MANY, "done", due=60)
        table()

        read = rows_read(store.claim, Noop, [Lane("new", 10)], LEASE)

        # Twice as many are looked at: their entry and the row; then those are locked and written.
        assert read <= 100

    def test_finds_nothing_among_what_is_due_later(self, store, table):
        fill(MANY, due=-3600)
        fill(MANY, "done", due=60)
        table()

        assert rows_read(store.claim, Noop, [Lane("new", 10)], LEASE) <= 20

    def test_takes_few_beside_what_is_due_later(self, store, table):
        fill(5, due=60)
        fill(MANY, due=-3600)
        table()

        assert rows_read(store.claim, Noop, [Lane("new", 1000)], LEASE) <= 80

    def test_reads_no_row_before_the_mark(self, store, table):
        fill(MANY, due=60, held=True)
        mark = store.now()
        fill(10)
        table()

        assert rows_read(store.claim, Noop, [Lane("new", 10, mark)], LEASE) <= 100

    def test_by_the_index_of_due_rows_and_by_key(self, store, table):
        fill(MANY, due=60)
        fill(MANY, "done", due=60)
        table()

        used = indexes_used(store.claim, Noop, [Lane("new", 10)], LEASE)

        assert used == {Noop._meta.indexes[0].name, "PRIMARY"}

    def test_leaves_the_rows_it_walks_over_unlocked(self, store, start_thread):
        """Held rows at the head of a lane can be settled while the claim goes on."""
        fill(50)
        held = claim(Noop, limit=20)
        outcomes = [moved(row, "done") for row in held]

        with transaction.atomic():
            assert len(store.claim(Noop, [Lane("new", 10)], LEASE)) == 10
            settled = start_thread(store_for("default").settle, Noop, outcomes).result()

        assert settled == {row.pk for row in held}

    def test_looks_beyond_what_others_are_claiming(self, store, start_thread):
        """The first rows are locked by a claim that is not committed: those after them are free."""
        fill(200)
        lane = [Lane("new", 10)]

        with transaction.atomic():
            assert len(store.claim(Noop, [Lane("new", 150)], LEASE)) == 150
            others = start_thread(store_for("default").claim, Noop, lane, LEASE).result()
            rest = start_thread(store_for("default").claim, Noop, [Lane("new", 99)], LEASE).result()

        assert (len(others), len(rest)) == (10, 40)


class TestPeek:
    def test_reads_one_row_a_lane(self, store, table):
        fill(MANY, due=-60)
        fill(MANY, "done", due=60)
        table()

        read = rows_read(store.peek, {Noop: [Lane("new", 1), Lane("done", 1)]})

        assert read <= 10


class TestByKey:
    @pytest.mark.parametrize("size", [1, 10, 1000])
    def test_rows_are_reached_by_their_key(self, store, table, size):
        fill(MANY, due=60)
        table()
        rows = store.claim(Noop, [Lane("new", size)], LEASE)
        fences = [fence(row) for row in rows]

        for function, arguments in (
            (store.still_held, [fences]),
            (store.renew, [fences, LEASE]),
            (store.settle, [[stayed(row) for row in rows]]),
            (store.hand_back, [fences]),
        ):
            read = rows_read(function, Noop, *arguments)
            assert read <= 10 + 4 * size, function
        assert indexes_used(store.still_held, Noop, fences) == {"PRIMARY"}
        assert indexes_used(store.settle, Noop, [moved(row, "done") for row in rows]) == {"PRIMARY"}

    def test_rows_of_a_small_table_are_reached_by_their_key(self, store):
        """Where the optimizer would rather read it as a whole, and lock it."""
        fill(6)
        rows = claim(Noop)

        assert indexes_used(store.renew, Noop, [fence(row) for row in rows], LEASE) == {"PRIMARY"}


class TestManyAtOnce:
    def test_each_with_a_due_time_of_its_own(self, store):
        Chain.objects.bulk_create(Chain() for _ in range(1200))
        rows = claim(Chain)
        outcomes = [stayed(row, delay=60.0 + number) for number, row in enumerate(rows)]

        with timed() as span:
            assert len(store.settle(Chain, outcomes)) == 1200

        due = {row.pk: row.state_next for row in Chain.objects.all() if row.state_next}
        assert len(due) == 1200
        for number, row in enumerate(rows):
            assert span.leads_to(due[row.pk], 60 + number)

    def test_rows_of_many_claims_are_settled(self, store):
        """More tokens than are counted at once."""
        Noop.objects.bulk_create(Noop() for _ in range(20))
        rows = [row for _ in range(20) for row in store.claim(Noop, [Lane("new", 1)], LEASE)]
        assert len({row.state_claim for row in rows}) == 20

        assert store.settle(Noop, [moved(row, "done") for row in rows]) == {row.pk for row in rows}
