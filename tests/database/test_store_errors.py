"""What a database error is about: the database, a row's data, or the statement itself."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from django_fsmworker.store import store_for
from django_fsmworker.store.errors import (
    blames_statement,
    is_contention,
    is_outage,
    is_refusal,
    may_be_mismatch,
)
from tests.app.models import Noop

pytestmark = pytest.mark.django_db

ON_SQLITE, ON_POSTGRESQL = pytest.mark.sqlite, pytest.mark.postgresql
ON_MYSQL = pytest.mark.mysql


def error_of(*sqls: str) -> DatabaseError:
    """What these statements end in."""
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        with connection.cursor() as cursor:
            for sql in sqls:
                cursor.execute(sql)
            cursor.fetchall()
    return caught.value


def case(sql: str, mark: Any) -> Any:
    return pytest.param(sql, marks=mark)


@pytest.mark.parametrize(
    "sql",
    [
        case("SELECT json_extract('{', '$.a')", ON_SQLITE),
        case("SELECT abs(-9223372036854775807 - 1)", ON_SQLITE),
        case("SELECT 1 / 0", ON_POSTGRESQL),
        case("SELECT 'x'::int", ON_POSTGRESQL),
        case("SELECT EXP(1000)", ON_MYSQL),
        case("SELECT 9223372036854775807 + 1", ON_MYSQL),
    ],
)
def test_an_error_of_a_row_s_data_is_a_refusal(sql):
    error = error_of(sql)

    assert is_refusal(error)
    assert not (is_outage(error) or is_contention(error) or blames_statement(error))
    assert not may_be_mismatch(error)


@pytest.mark.parametrize("mark", [case("", ON_SQLITE), case("", ON_POSTGRESQL), case("", ON_MYSQL)])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nothing_of_the_kind FROM tests_noop",
        "SELECT * FROM nothing_of_the_kind",
        "SELECT nothing_of_the_kind(5)",
    ],
)
def test_an_error_of_the_statement_is_the_guard_s(sql, mark):
    error = error_of(sql)

    assert blames_statement(error)
    assert may_be_mismatch(error)
    assert not (is_outage(error) or is_contention(error))


class TestMismatch:
    """Whose doing it is: the table's, or somebody else's in the same words."""

    def test_a_table_that_is_as_expected_is_not_to_blame(self):
        error = error_of("SELECT nothing_of_the_kind FROM tests_noop")

        assert store_for("default").mismatch(Noop, error) is None

    @pytest.mark.postgresql
    @pytest.mark.sqlite  # MariaDB would end the test's transaction
    @pytest.mark.parametrize("column", ["state", "state_claim"])
    def test_a_table_without_a_column_is(self, column):
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE tests_noop RENAME COLUMN {column} TO away")
            try:
                error = error_of(f"SELECT {column} FROM tests_noop")
                found = store_for("default").mismatch(Noop, error)
            finally:
                with connection.cursor() as cursor:
                    cursor.execute(f"ALTER TABLE tests_noop RENAME COLUMN away TO {column}")

        assert found is not None
        assert found[0] is Noop
        assert column in str(found[1])

    def test_an_outage_is_none(self):
        error = OperationalError("the connection is closed")

        assert is_outage(error)
        assert store_for("default").mismatch(Noop, error) is None


@pytest.mark.sqlite
@pytest.mark.parametrize("code", [3, 11, 26])
def test_a_damaged_file_is_an_outage(code):
    raised = sqlite3.DatabaseError("database disk image is malformed")
    raised.sqlite_errorcode = code
    error = DatabaseError("database disk image is malformed")
    error.__cause__ = raised

    assert is_outage(error)
    assert not is_refusal(error)


@pytest.mark.postgresql
def test_of_a_statement_that_took_too_long():
    error = error_of("SET LOCAL statement_timeout = 200", "SELECT pg_sleep(5)")

    assert blames_statement(error)
    assert not (is_outage(error) or is_contention(error))


@pytest.mark.mysql
def test_of_a_statement_that_took_mariadb_too_long():
    if not connection.mysql_is_mariadb:  # type: ignore[attr-defined]
        pytest.skip("MySQL has max_execution_time")
    error = error_of(
        "SET STATEMENT max_statement_time = 0.05 FOR SELECT COUNT(*) FROM "
        "information_schema.columns AS a, information_schema.columns AS b, "
        "information_schema.columns AS c"
    )

    assert blames_statement(error)
    assert not (is_outage(error) or is_contention(error))
