"""What a database error is about: the database, a row's data, or the statement itself."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from django_fsmworker.runner.guards.deciding import is_of_the_guard
from django_fsmworker.store.errors import is_contention, is_outage, is_refusal

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
def test_of_a_row_s_data(sql):
    error = error_of(sql)

    assert is_refusal(error)
    assert not (is_outage(error) or is_contention(error) or is_of_the_guard(error))


@pytest.mark.parametrize("mark", [case("", ON_SQLITE), case("", ON_POSTGRESQL), case("", ON_MYSQL)])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nothing_of_the_kind FROM testapp_noop",
        "SELECT * FROM nothing_of_the_kind",
        "SELECT nothing_of_the_kind(5)",
    ],
)
def test_of_the_statement(sql, mark):
    error = error_of(sql)

    assert is_of_the_guard(error)
    assert not (is_outage(error) or is_contention(error))


@pytest.mark.postgresql
def test_of_a_statement_that_took_too_long():
    error = error_of("SET LOCAL statement_timeout = 10", "SELECT pg_sleep(5)")

    assert is_of_the_guard(error)
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

    assert is_of_the_guard(error)
    assert not (is_outage(error) or is_contention(error))
