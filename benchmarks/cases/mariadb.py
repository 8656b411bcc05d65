"""Drain on MariaDB, against raw SQL there."""

from __future__ import annotations

from django.db import connections

from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.cases.drain import of_the_floor
from benchmarks.contenders import Engine, RawSQL
from benchmarks.requirements import Requirement
from benchmarks.results import Series

ALIAS = "mariadb"
ROWS, RUNS = 50_000, 3


def measure(bench: Bench) -> list[Series]:
    if ALIAS not in connections:
        raise RuntimeError("there is no MariaDB server: install mariadbd, or set TEST_MYSQL_URL")
    contenders = [RawSQL("Noop", ALIAS), Engine("Noop", ALIAS)]
    return bench.race(contenders, [bench.size(ROWS)] * 2, bench.times(RUNS))


CASE = Case(
    "mariadb",
    "Drain on MariaDB",
    measure,
    [Requirement("MariaDB drain", 0.6, "x its serial raw SQL", of_the_floor)],
    ("postgresql", "sqlite", "mysql"),
    about=(
        "Raw SQL locks and selects 1,000 keys and updates them in one transaction, and settles "
        "them by an update of those keys."
    ),
)
