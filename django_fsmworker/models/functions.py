"""What the ORM does not say by itself.

Expressions that each database spells in its own way, and an UPDATE that answers with what it wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, DateTimeField, Func, Q, QuerySet
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.subqueries import UpdateQuery

from django_fsmworker.models.engine import Dialect, Term, engine
from django_fsmworker.models.keys import row_digest
from django_fsmworker.models.records import FailureRecord

_dialects: dict[str, Dialect] = {}


def known_dialect(connection: Any) -> Dialect:
    """The dialect of the database of ``connection``, Django's wrapper; asked for once a vendor."""
    try:
        return _dialects[connection.vendor]
    except KeyError:
        return _dialects.setdefault(connection.vendor, engine().dialect(connection))


class DatabaseNow(Func):
    """The database's own time, as a claim sees it."""

    output_field = DateTimeField()

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, list[Any]]:
        return known_dialect(connection).now(connection)


class DatabaseLater(Func):
    """The database's own time, so many seconds later (earlier, if they are below zero)."""

    output_field = DateTimeField()

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, list[Any]]:
        return known_dialect(connection).later(connection, self.seconds)


class SameMoment(DatabaseNow):
    """The database's own time, the same wherever it stands in one statement."""

    def __init__(self) -> None:
        super().__init__()
        self._term: list[Term] = []  # shared with the copies that a query makes

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> Term:
        if not self._term:
            self._term.append(known_dialect(connection).now(connection))
        return self._term[0]


def leased() -> Q:
    """The condition of rows that a lease holds."""
    return Q(state_lease__gt=DatabaseNow())


def unleased() -> Q:
    """The condition of rows that no lease holds."""
    return Q(state_lease__isnull=True) | Q(state_lease__lte=DatabaseNow())


class AppendToHistory(Func):
    """A row's ``state_history`` with ``[state, now]`` appended."""

    def __init__(self, history: str, state: str) -> None:
        super().__init__(history)
        self.entry = state

    def as_sql(  # type: ignore[override]
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, list[Any]]:
        column, params = compiler.compile(self.source_expressions[0])
        sql, moment = known_dialect(connection).appended(connection, column, "%s")
        return f"({sql})", [*params, self.entry, *moment]


class Unfailing(Func):
    """The condition that a row, named as records name it, has no failure that is not resolved.

    Most moves of a row ask it. ``~Exists(…)`` would take as long to be made as the rest of the
    statement, and is always the same but for its two values.
    """

    output_field = BooleanField()

    def __init__(self, model: str, row: str) -> None:
        super().__init__()
        self.values = {"model": model, "digest": row_digest(row)}

    def as_sql(  # type: ignore[override]
        self, compiler: Any, connection: Any, **extra: Any
    ) -> tuple[str, list[Any]]:
        exists, names = _on_record(compiler.using)
        return f"NOT EXISTS ({exists})", [self.values.get(name, name) for name in names]


@cache
def _on_record(using: str) -> tuple[str, tuple[Any, ...]]:
    """The query for an unresolved failure, with the names of the columns for their values."""
    names = {name: name for name in ("model", "digest")}
    query = FailureRecord.objects.using(using).filter(**names, resolved=None).query.exists()
    sql, params = query.get_compiler(using).as_sql()
    return sql, tuple(params)


def update_row(
    row: QuerySet[Any], fence: Q, values: dict[str, Any], names: Iterable[str]
) -> dict[str, Any] | None:
    """Write ``values`` to the one row of ``row`` if ``fence`` is true of it.

    Returns the columns ``names`` as they are afterwards; None if nothing was written. It is one
    statement where an UPDATE of the database returns rows, and two where it does not.
    """
    if known_dialect(connections[row.db]).returns_updated:
        found = update_returning(row.filter(fence), values, names)
        return dict(zip(names, found[0], strict=True)) if found else None
    if not row.filter(fence).update(**values):
        return None
    read: dict[str, Any] | None = row.values(*names).first()
    return read


def update_returning(
    rows: QuerySet[Any], values: dict[str, Any], names: Iterable[str]
) -> list[tuple[Any, ...]]:
    """Write ``values`` to ``rows``, all of one table; the columns ``names`` of each, as written."""
    connection: Any = connections[rows.db]
    fields: list[Any] = [rows.model._meta.get_field(name) for name in names]
    quote, table = connection.ops.quote_name, rows.model._meta.db_table
    returned = ", ".join(f"{quote(table)}.{quote(field.column)}" for field in fields)
    try:
        compiler, statement, params = _compiled(rows, values)
    except EmptyResultSet:  # no row can match, as after none()
        return []
    found = _fetched(rows.db, f"{statement} RETURNING {returned}", params)
    converters = compiler.get_converters([field.get_col(table) for field in fields])
    return [tuple(each) for each in compiler.apply_converters(found, converters)]


def update_counting(rows: QuerySet[Any], values: dict[str, Any], name: str) -> tuple[int, int]:
    """Write ``values`` to ``rows``, all of one table; how many, and how many have a ``name`` then.

    Where the database cannot tell without answering with every row, all are taken to have one.
    """
    connection: Any = connections[rows.db]
    column = connection.ops.quote_name(rows.model._meta.get_field(name).column)
    try:
        _, statement, params = _compiled(rows, values)
    except EmptyResultSet:
        return 0, 0
    counting = known_dialect(connection).counting(statement, column)
    if counting is None:
        number = rows.update(**values)
        return number, number
    ((number, having),) = _fetched(rows.db, counting, params)
    return number, having


def _compiled(rows: QuerySet[Any], values: dict[str, Any]) -> tuple[Any, str, Any]:
    query: Any = rows.query.chain(UpdateQuery)
    query.add_update_values(values)
    compiler: Any = query.get_compiler(rows.db)
    return compiler, *compiler.as_sql()


def _fetched(using: str, statement: str, params: Any) -> list[tuple[Any, ...]]:
    with transaction.mark_for_rollback_on_error(using=using):
        with connections[using].cursor() as cursor:
            cursor.execute(statement, params)
            return list(cursor.fetchall())
