"""Drain on SQLite, against raw SQL there."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.cases.drain import of_the_floor
from benchmarks.contenders import Engine, RawSQL
from benchmarks.requirements import Requirement
from benchmarks.results import Series

ROWS, RUNS = 20_000, 5
ONE_PROCESSOR = (
    "SQLite is no process of its own: its work and ours share one interpreter. Raw SQL takes 3 µs "
    "a row in all. Our claim and settling take about 7, of which 4 turn columns into objects; the "
    "check, and handing a row from thread to thread, take the rest."
)


def measure(bench: Bench) -> list[Series]:
    contenders = [RawSQL("Noop", "sqlite"), Engine("Noop", "sqlite")]
    return bench.race(contenders, [bench.size(ROWS)] * 2, bench.times(RUNS))


CASE = Case(
    "sqlite",
    "Drain on SQLite",
    measure,
    [Requirement("SQLite drain", 0.7, "x its serial raw SQL", of_the_floor, why=ONE_PROCESSOR)],
    ("postgresql", "sqlite", "mysql"),
    about=(
        "A file with WAL and `synchronous=NORMAL`, as the documentation of this package says. "
        "Raw SQL claims and settles in batches of 1,000."
    ),
)
