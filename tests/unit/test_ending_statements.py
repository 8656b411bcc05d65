"""Which statements end the transaction in which they are sent, by their text."""

from __future__ import annotations

import pytest

from django_fsmworker.store.driver import Driver
from django_fsmworker.store.mysql.driver import MySQLDriver
from django_fsmworker.store.postgresql.driver import PostgreSQLDriver
from django_fsmworker.store.sqlite.driver import SQLiteDriver

ANY = (SQLiteDriver, PostgreSQLDriver, MySQLDriver)


@pytest.mark.parametrize("driver", ANY)
@pytest.mark.parametrize(
    "sql",
    ["COMMIT", "commit;", "/* now */ COMMIT AND CHAIN", "ROLLBACK", "ROLLBACK WORK;"],
)
def test_of_any_database(driver: type[Driver], sql: str) -> None:
    assert driver().ends_transaction(sql)


@pytest.mark.parametrize("driver", ANY)
@pytest.mark.parametrize(
    "sql",
    [
        "",
        "ROLLBACK TO SAVEPOINT a",
        "rollback work to a",
        "ROLLBACK TRANSACTION TO SAVEPOINT a",
        "SAVEPOINT a",
        "RELEASE SAVEPOINT a",
        "SELECT 1 AS commit",
        "INSERT INTO commits VALUES ('; COMMIT')",
    ],
)
def test_those_that_do_not(driver: type[Driver], sql: str) -> None:
    assert not driver().ends_transaction(sql)


def test_what_ends_it_on_some_only() -> None:
    assert SQLiteDriver().ends_transaction("END")
    assert PostgreSQLDriver().ends_transaction("END")
    assert PostgreSQLDriver().ends_transaction("ABORT")
    assert not PostgreSQLDriver().ends_transaction("CREATE TABLE a (b int)")


@pytest.mark.parametrize("sql", ["TRUNCATE a", "alter table a add b int", "BEGIN", "DROP TABLE a"])
def test_what_commits_by_the_way_on_mysql(sql: str) -> None:
    assert MySQLDriver().commits_by_the_way(sql)
    assert not MySQLDriver().ends_transaction(sql)
    assert not SQLiteDriver().commits_by_the_way(sql)


@pytest.mark.parametrize(
    "sql", ["CREATE TEMPORARY TABLE a (b int)", "create or replace temporary table a (b int)"]
)
def test_temporary_tables_do_not(sql: str) -> None:
    assert not MySQLDriver().commits_by_the_way(sql)
