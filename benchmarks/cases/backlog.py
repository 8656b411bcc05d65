"""Drain of some rows in a table that holds a great many others, which are not to be run now."""

from __future__ import annotations

from collections.abc import Callable

from django.db import connection

from benchmarks import database
from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.cases.drain import without
from benchmarks.contenders import Engine
from benchmarks.requirements import Requirement
from benchmarks.results import Series

ROWS, RUNS = 50_000, 5
TINY = 2_000

# Due next year, or due for an hour in a state that this build does not know.
WAITING = "'new', now() + interval '1 year' + n * interval '1 second'"
BLOCKED = "'of_a_newer_build', now() - interval '1 hour' + n * interval '1 millisecond'"

ABOUT = {
    WAITING: "The other rows are in the same state, and due next year or later.",
    BLOCKED: (
        "The other rows were due before, but are in a state that this build of the graph does not "
        "know, as while a newer one is being rolled out."
    ),
}


class Behind(Engine):
    """Runs its rows in a table that keeps all its others."""

    def clear(self) -> None:
        if self._keys:
            self.rows.filter(pk__range=(self._keys[0], self._keys[-1])).delete()


def behind(number: int, others: str) -> Callable[[Bench], list[Series]]:
    def measure(bench: Bench) -> list[Series]:
        around = bench.around(number, TINY)
        fill(around, others)
        contenders = [Engine("Noop"), Behind("Waiting", settings=f"behind {around:,} rows")]
        try:
            return bench.race(contenders, [bench.size(ROWS)] * 2, bench.times(RUNS))
        finally:
            database.empty("default", contenders[1].model)

    return measure


def fill(number: int, others: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE benchmarks_waiting")
        cursor.execute(
            f"INSERT INTO benchmarks_waiting (state, state_next) "
            f"SELECT {others} FROM generate_series(1, {number}) AS n"
        )


def case(name: str, title: str, number: int, others: str, limit: float) -> Case:
    requirement = Requirement(title, limit, "x the drain without them", without)
    return Case(name, f"Drain {title}", behind(number, others), [requirement], about=ABOUT[others])


CASES = [
    case("backlog-1m", "behind 1,000,000 waiting rows", 10**6, WAITING, 0.95),
    case("backlog-10m", "behind 10,000,000 waiting rows", 10**7, WAITING, 0.9),
    case("blocked-1m", "behind 1,000,000 due rows that may not run", 10**6, BLOCKED, 0.9),
]
