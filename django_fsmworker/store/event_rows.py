"""An event for each row of a queryset, read and written in one statement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections, transaction
from django.db.models import CharField, F, QuerySet
from django.db.models.functions import Cast

from django_fsmworker.models.event import Event
from django_fsmworker.models.keys import LONGEST_KEY

ROW, KEY = "fsm_row_", "fsm_key_"


def insert_for_rows(rows: QuerySet[Any], key: str, values: Mapping[str, Any]) -> int:
    """Insert an event for each of ``rows``, whose ``key`` is a whole number; how many.

    A row that a join brings several times gets one. ``values`` are the other columns: plain values,
    or expressions that name no column.
    """
    connection, meta = connections[rows.db], Event._meta
    quote = connection.ops.quote_name
    named = {ROW: Cast(key, CharField(max_length=LONGEST_KEY)), KEY: F(key)}
    found = rows.annotate(**named).values_list(ROW, KEY)
    try:
        read, of_rows = found.query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:  # no row can match, as after none()
        return 0
    event = Event(**values)
    fields: list[Any] = [field for field in meta.concrete_fields if field is not meta.pk]
    compiler: Any = QuerySet(Event, using=rows.db).query.get_compiler(rows.db)
    terms, params = [], []
    for field in fields:
        if field.attname in ("row", "row_hash"):
            terms.append(quote(ROW if field.attname == "row" else KEY))
            continue
        value: Any = field.pre_save(event, add=True)
        if hasattr(value, "resolve_expression"):
            term, own = compiler.compile(value.resolve_expression(compiler.query, for_save=True))
        else:
            term, own = "%s", [field.get_db_prep_save(value, connection)]
        terms.append(term)
        params += own
    columns = ", ".join(quote(str(field.column)) for field in fields)
    if _may_repeat(found.query):
        read = f"SELECT DISTINCT {quote(ROW)}, {quote(KEY)} FROM ({read}) AS fsm_found"
    statement = (
        f"INSERT INTO {quote(meta.db_table)} ({columns}) "
        f"SELECT {', '.join(terms)} FROM ({read}) AS fsm_rows"
    )
    with transaction.mark_for_rollback_on_error(using=rows.db), connection.cursor() as cursor:
        cursor.execute(statement, [*params, *of_rows])
        number: int = cursor.rowcount
    return number


def _may_repeat(query: Any) -> bool:
    """Whether a row may come several times: the query, which has been compiled, reads more."""
    return len(query.alias_map) > 1 or bool(query.extra_tables or query.combinator)
