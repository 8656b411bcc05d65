"""Expressions that have to be spelled differently on each database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Func, Q
from django.db.models.sql.compiler import SQLCompiler

from django_fsmworker import clock

# Of MariaDB and MySQL: as PostgreSQL and Python write a moment.
ISO_FORMAT = "%Y-%m-%dT%H:%i:%s.%f+00:00"


class DatabaseNow(Func):
    """The database's own time, as a claim sees it.

    ``statement_timestamp()`` on PostgreSQL: ``now()`` stands still inside a transaction and
    ``clock_timestamp()`` cannot bound an index scan. UTC on MariaDB and MySQL, whatever time zone
    the session has. SQLite is one machine: this one.
    """

    output_field = DateTimeField()
    template = "%(function)s"

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, list[Any]]:
        if clock.travelled():
            return "(statement_timestamp() + %s)", [clock.travelled()]
        return "statement_timestamp()", []

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, list[Any]]:
        if clock.travelled():
            travelled = clock.travelled() // timedelta(microseconds=1)
            return "(UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND)", [travelled]
        return "UTC_TIMESTAMP(6)", []

    def as_sqlite(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, list[Any]]:
        return "%s", [connection.ops.adapt_datetimefield_value(clock.now())]


def unleased() -> Q:
    """The condition of rows that no lease holds."""
    return Q(state_lease__isnull=True) | Q(state_lease__lte=DatabaseNow())


class AppendToHistory(Func):
    """A row's ``state_history`` with ``[state, now]`` appended."""

    def __init__(self, history: str, state: str) -> None:
        super().__init__(history)
        self.entry = state

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, list[Any]]:
        column, params = compiler.compile(self.source_expressions[0])
        moment, moment_params = compiler.compile(DatabaseNow())
        sql = (
            f"(COALESCE({column}, '[]'::jsonb) || "
            f"jsonb_build_array(jsonb_build_array(%s::text, {moment})))"
        )
        return sql, [*params, self.entry, *moment_params]

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, list[Any]]:
        column, params = compiler.compile(self.source_expressions[0])
        moment, moment_params = compiler.compile(DatabaseNow())
        sql = (
            f"JSON_ARRAY_APPEND(COALESCE({column}, '[]'), '$', "
            f"JSON_ARRAY(%s, DATE_FORMAT({moment}, %s)))"
        )
        return sql, [*params, self.entry, *moment_params, ISO_FORMAT]

    def as_sqlite(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, list[Any]]:
        column, params = compiler.compile(self.source_expressions[0])
        sql = f"json_insert(COALESCE({column}, '[]'), '$[#]', json_array(%s, %s))"
        return sql, [*params, self.entry, clock.now().isoformat()]
