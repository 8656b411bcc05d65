"""What a database knows about a large table without counting, and what is wrong with it.

A package for each database fills it in. All of it reads; none of it is asked by a runner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from django.db import connections
from django.db.models import Count, QuerySet

from django_fsmworker.models.indexes import checked_states, engine_indexes
from django_fsmworker.store.tables import table_for

# Rows that are looked at where an estimate comes from a sample.
SAMPLED = 2000

Severity: TypeAlias = Literal["warning", "advice"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a database or a table, or could be better.

    ``code`` is a word that stays, ``evidence`` what the sentence rests on.
    """

    code: str
    sentence: str
    remedy: str
    severity: Severity = "warning"
    evidence: dict[str, Any] = field(default_factory=dict)


class Statistics:
    """Of the database behind one alias; what is here works on every database."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @property
    def connection(self) -> Any:
        """The calling thread's connection."""
        return connections[self.alias]

    def rows_by_state(self, model: Any) -> tuple[dict[str, int], bool]:
        """The number of rows in each state, and whether these are estimates."""
        rows: QuerySet[Any] = QuerySet(model, using=self.alias)
        counted = rows.order_by().values_list("state").annotate(number=Count("*"))
        return dict(counted), False

    def number_of(self, rows: QuerySet[Any]) -> int:
        """About how many rows a simple condition is true of."""
        return rows.count()

    def count_up_to(self, rows: QuerySet[Any], most: int) -> tuple[int, bool]:
        """How many ``rows`` there are; and whether that, of more than ``most``, is an estimate.

        A database that has none counts all of them.
        """
        return rows.count(), False

    tells_costs = False
    """Whether ``is_long_walk()`` can tell."""

    def is_long_walk(self, rows: QuerySet[Any]) -> bool:
        """Whether the database expects to walk over a large table to find these rows."""
        return False

    def counted_or_estimated(self, rows: QuerySet[Any], most: int) -> tuple[int, bool]:
        """As many as ``most`` are counted; of more the database has an estimate."""
        rows = rows.order_by()
        counted = rows[: most + 1].count()
        if counted <= most:
            return counted, False
        return max(self.number_of(rows), counted), True

    def at_rest(self, model: Any, most: int) -> dict[str, tuple[int, int]]:
        """By state, the rows in checked states that have nothing due: parked, and stranded.

        Looked at are ``most`` of them, in an index that has no others.
        """
        table, states = table_for(model, self.alias), checked_states(model.state_graph)
        if not states:
            return {}
        # The states are written out: SQLite takes no parameters for those of a partial index.
        listed = ", ".join(f"'{state}'" for state in states)
        rows = (
            f"SELECT {table.state} AS state, {table.failures} AS failures FROM {table.name} "
            f"WHERE {table.state} IN ({listed}) AND {table.next} IS NULL"
        )
        found = self.fetch(
            f"SELECT state, SUM(CASE WHEN failures <> 0 THEN 1 ELSE 0 END), "
            f"SUM(CASE WHEN failures = 0 THEN 1 ELSE 0 END) "
            f"FROM ({self.first_of(rows)}) AS at_rest GROUP BY state",
            [most],
        )
        return {state: (int(parked), int(stranded)) for state, parked, stranded in found}

    def stranded(self, model: Any, most: int) -> list[Any]:
        """The keys of rows in checked states that have nothing due and no failure.

        At most so many, from the same index.
        """
        table, states = table_for(model, self.alias), checked_states(model.state_graph)
        if not states:
            return []
        listed = ", ".join(f"'{state}'" for state in states)
        rows = (
            f"SELECT {', '.join(table.key)} FROM {table.name} WHERE {table.state} IN ({listed}) "
            f"AND {table.next} IS NULL AND {table.failures} = 0"
        )
        return table.each_key(self.fetch(self.first_of(rows), [most]))

    def first_of(self, rows: str) -> str:
        """The SQL of some of what the SQL ``rows`` has; its last parameter is how many."""
        return f"{rows} LIMIT %s"

    def examine_database(self) -> Iterator[Finding]:
        """What is wrong with the database, its server and the sessions there."""
        yield from ()

    def examine_table(self, model: Any) -> Iterator[Finding]:
        """What is wrong with the table of ``model`` and its indexes."""
        yield from ()

    def absent_indexes(self, model: Any, present: Collection[str]) -> Iterator[Finding]:
        """Of a runner's indexes those that are not among the names ``present``."""
        for name in sorted({index.name for index in engine_indexes(model)} - set(present)):
            yield Finding(
                "missing_index",
                f"{model._meta.label} has no index {name} in the database {self.alias!r}: a runner "
                f"reads the whole table instead.",
                f"Run 'manage.py migrate --database {self.alias}'.",
                evidence={"index": name},
            )

    def fetch(self, sql: str, params: list[Any] | None = None) -> list[Any]:
        """The rows of an answer."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            rows: list[Any] = cursor.fetchall()
            return rows
