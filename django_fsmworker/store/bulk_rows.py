"""The rows of a frozen query: how many they are, and the next in the order of their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import F, QuerySet

KEY = "fsm_key_"

FrozenQuery = tuple[str, list[Any]]
"""SQL that reads the keys of rows, in a column called ``KEY``, with its parameters."""


def frozen_query(rows: QuerySet[Any]) -> FrozenQuery | None:
    """What reads the keys of ``rows`` from their database; None if no row can match."""
    keys = rows.order_by().annotate(**{KEY: F("pk")}).values_list(KEY)
    try:
        sql, params = keys.query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return None
    return sql, list(params)


def number_in(alias: str, query: FrozenQuery) -> int:
    """The number of rows."""
    sql, params = query
    # Two joined tables may have named a row more than once.
    counted = f"SELECT COUNT(DISTINCT {_key(alias)}) FROM ({sql}) AS fsm_rows"
    with connections[alias].cursor() as cursor:
        cursor.execute(counted, params)
        return int(cursor.fetchone()[0])


def keys_after(
    model: Any, alias: str, query: FrozenQuery, cursor: Any, end: Any, most: int
) -> list[Any]:
    """The next keys behind ``cursor``, None for the start, and up to ``end``; ``most`` of them."""
    sql, params = query
    key, conditions, bounds = _key(alias), f"{_key(alias)} <= %s", [end]
    if cursor is not None:
        conditions, bounds = f"{key} > %s AND {conditions}", [cursor, end]
    return _keys(
        model,
        alias,
        f"SELECT {key} FROM ({sql}) AS fsm_rows WHERE {conditions} ORDER BY {key} LIMIT {most:d}",
        [*params, *_prepared(model, alias, bounds)],
    )


def still_matching(model: Any, alias: str, query: FrozenQuery, keys: Sequence[Any]) -> set[Any]:
    """The part of ``keys`` that the query finds now."""
    sql, params = query
    marks = ", ".join(["%s"] * len(keys))
    found = _keys(
        model,
        alias,
        f"SELECT {_key(alias)} FROM ({sql}) AS fsm_rows WHERE {_key(alias)} IN ({marks})",
        [*params, *_prepared(model, alias, keys)],
    )
    return set(found)


def _key(alias: str) -> str:
    return connections[alias].ops.quote_name(KEY)


def _prepared(model: Any, alias: str, keys: Sequence[Any]) -> list[Any]:
    field, connection = model._meta.pk, connections[alias]
    return [field.get_db_prep_value(each, connection, prepared=False) for each in keys]


def _keys(model: Any, alias: str, sql: str, params: list[Any]) -> list[Any]:
    """The keys that a statement reads, each once, as the model's own field has them."""
    compiler: Any = QuerySet(model, using=alias).query.get_compiler(alias)
    converters = compiler.get_converters([model._meta.pk.get_col(model._meta.db_table)])
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall()
    converted = compiler.apply_converters(rows, converters) if converters else rows
    return list(dict.fromkeys(row[0] for row in converted))
