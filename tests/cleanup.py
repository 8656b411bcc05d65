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


def empty_filled_tables_only() -> None:
    """Let test cases that commit clean up this way from now on."""

    def teardown(self: Any) -> None:
        for alias in self._databases_names(include_mirrors=False):
            empty(alias)

    TransactionTestCase._fixture_teardown = teardown  # type: ignore[attr-defined]


def empty(alias: str) -> None:
    """Delete all rows that a test has left in that database."""
    connection = connections[alias]
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        filled = [quote(table) for table in _filled(cursor, _tables(alias), quote)]
        if connection.vendor == "postgresql":
            # Rows that are deleted only would be in the way of those who measure.
            if filled:
                cursor.execute(f"TRUNCATE {', '.join(filled)} CASCADE")
        elif connection.vendor == "mysql":
            with connection.constraint_checks_disabled():
                for table in filled:
                    cursor.execute(f"TRUNCATE {table}")
        else:
            with transaction.atomic(alias):
                for table in filled:
                    cursor.execute(f"DELETE FROM {table}")


@cache
def _tables(alias: str) -> list[str]:
    introspection = connections[alias].introspection
    names = introspection.django_table_names(only_existing=True, include_views=False)
    return sorted(set(names) - KEPT)


def _filled(cursor: Any, tables: list[str], quote: Any) -> list[str]:
    ask = (f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {quote(table)})" for table in tables)
    cursor.execute(" UNION ALL ".join(ask))
    return [table for (table,) in cursor.fetchall()]
