"""Rows of a claim from SQLite, whose timestamps are text, read in a fraction of the time.

The driver makes a timestamp of every column that is declared as one, by a function in Python, and
Django adds the time zone by another. Where that zone is UTC, as it is unless a project says
otherwise, both come down to one call: so the text itself is asked for, and read here. Rows of a
claim have many moments in common, each of which is read once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.db import connections

from django_fsmworker.store.tables import Table


def returned(table: Table) -> str:
    """Every column, for a RETURNING clause; the timestamps that ``load()`` reads are text."""
    return _returned(table, _stored_as_utc(table))


@cache
def _returned(table: Table, positions: Collection[int]) -> str:
    terms = table.selected(table.fields)
    for position in positions:
        terms[position] = f"CAST({terms[position]} AS text)"
    return ", ".join(terms)


def load(table: Table, rows: Iterable[Sequence[Any]]) -> list[Any]:
    """Model instances from rows that hold what ``returned()`` says."""
    positions = _stored_as_utc(table)
    if not positions:
        return table.load(rows)
    return table.load(_with_moments(rows, positions, Moments(table.database)), aware=True)


def _stored_as_utc(table: Table) -> tuple[int, ...]:
    """Where in a row timestamps stand that Django has stored as UTC."""
    return table.timestamps if connections[table.database].timezone is UTC else ()


def _with_moments(
    rows: Iterable[Sequence[Any]], positions: Sequence[int], moments: Moments
) -> Iterator[Sequence[Any]]:
    for row in rows:
        values = list(row)
        for position in positions:
            values[position] = moments[values[position]]
        yield values


class Moments(dict[Any, datetime | None]):
    """The timestamp for each text; those that have been read are kept."""

    def __init__(self, alias: str) -> None:
        super().__init__({None: None})
        self._alias = alias

    def __missing__(self, text: str) -> datetime | None:
        try:
            moment: datetime | None = datetime.fromisoformat(text)
        except ValueError:  # written by somebody else, in another format that Django reads
            connection: Any = connections[self._alias]
            moment = connection.ops.convert_datetimefield_value(text, None, connection)
        if moment is not None and moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        self[text] = moment
        return moment
