"""The databases emptied after a test that committed: only those tables that hold rows.

Django's own way empties all of them and makes the permissions anew. That is a fraction of a second
for each database, and with more than a thousand such tests it was most of what they took.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db import connections, transaction
from django.test import TransactionTestCase

# Filled by the migrations; no test changes them.
KEPT = {"auth_permission", "django_content_type", "django_migrations"}
FEW = 50


def empty_filled_tables_only() -> None:
    """Let test cases that commit clean up this way from now on."""

    def teardown(self: Any) -> None:
        for alias in self._databases_names(include_mirrors=False):
            empty(alias)

    TransactionTestCase._fixture_teardown = teardown  # type: ignore[attr-defined]


def empty(alias: str) -> None:
    """Delete all rows that a test has left in that database."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        filled = _filled(connection, cursor)
        emptied = (
            [table for table, many in filled.items() if many] if _truncates(connection) else []
        )
        # Rows that are deleted only would be in the way of those who measure; that few are not,
        # and new files for a table and its indexes take many times as long.
        if emptied and connection.vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(emptied)} CASCADE")
        elif emptied:
            with connection.constraint_checks_disabled():
                for table in emptied:
                    cursor.execute(f"TRUNCATE {table}")
        if left := [table for table in filled if table not in emptied]:
            with transaction.atomic(alias), connection.constraint_checks_disabled():
                for table in left:
                    cursor.execute(f"DELETE FROM {table}")


def _truncates(connection: Any) -> bool:
    return connection.vendor in ("mysql", "postgresql")


@cache
def _tables(alias: str) -> list[str]:
    introspection = connections[alias].introspection
    names = introspection.django_table_names(only_existing=True, include_views=False)
    return [connections[alias].ops.quote_name(name) for name in sorted(set(names) - KEPT)]


def _filled(connection: Any, cursor: Any) -> dict[str, bool]:
    """The tables that hold rows, and whether these are many."""
    tables = _tables(connection.alias)
    cursor.execute(
        " UNION ALL ".join(
            f"SELECT {number}, EXISTS (SELECT 1 FROM {table} LIMIT 1 OFFSET {FEW})"
            f" WHERE EXISTS (SELECT 1 FROM {table})"
            for number, table in enumerate(tables)
        )
    )
    return {tables[number]: bool(many) for number, many in cursor.fetchall()}
