"""Drain on SQLite, against raw SQL there."""

from __future__ import annotations

from tests.benchmarks.bench import Bench
from tests.benchmarks.cases.case import Case
from tests.benchmarks.cases.drain import PYTHON, of_the_floor
from tests.benchmarks.contenders import Engine, RawSQL
from tests.benchmarks.requirements import Requirement
from tests.benchmarks.results import Series

ROWS, RUNS = 20_000, 5


def measure(bench: Bench) -> list[Series]:
    contenders = [RawSQL("Noop", "sqlite"), Engine("Noop", "sqlite")]
    return bench.race(contenders, [bench.size(ROWS)] * 2, bench.times(RUNS))


CASE = Case(
    "sqlite",
    "Drain on SQLite",
    measure,
    [Requirement("SQLite drain", 0.7, "x its serial raw SQL", of_the_floor, why=PYTHON)],
    ("postgresql", "sqlite", "mysql"),
    about=(
        "A file with WAL and `synchronous=NORMAL`, as the documentation of this package says. "
        "Raw SQL claims and settles in batches of 1,000."
    ),
)
