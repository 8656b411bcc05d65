"""Drain while another session holds an old snapshot: no dead row and no index entry can go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.cases.drain import without
from benchmarks.contenders import Engine
from benchmarks.costs import OBSERVER
from benchmarks.requirements import Requirement
from benchmarks.results import Series

ROWS, RUNS = 100_000, 5


class UnderSnapshot(Engine):
    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        with psycopg.connect(self.url, application_name=OBSERVER) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT 1")
            yield


def measure(bench: Bench) -> list[Series]:
    contenders = [Engine("Noop"), UnderSnapshot("Noop", settings="old snapshot held")]
    return bench.race(contenders, [bench.size(ROWS)] * 2, bench.times(RUNS))


CASE = Case(
    "snapshot",
    "Drain while another session holds an old snapshot",
    measure,
    [Requirement("old snapshot, 100,000 transitions", 0.5, "x the drain without it", without)],
    about=(
        "Another session has a transaction open that began before. So no version of a row "
        "that the drain leaves behind can be removed, and no index entry of one."
    ),
)
