"""Drain over a network whose round trip takes 2 ms, as to a database in another building."""

from __future__ import annotations

import time
from contextlib import ExitStack

import psycopg

from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.cases.drain import without
from benchmarks.contenders import Engine
from benchmarks.proxy import delayed
from benchmarks.requirements import Requirement
from benchmarks.results import Series

ROWS, RUNS = 50_000, 5
ONE_WAY = 0.001
PINGS = 50


def measure(bench: Bench) -> list[Series]:
    direct = Engine("Noop")
    with ExitStack() as stack:
        url = stack.enter_context(delayed(direct.url, ONE_WAY))
        through = Engine("Noop", settings="2 ms round trip", url=url)
        rows = [bench.size(ROWS)] * 2
        series = bench.race([direct, through], rows, bench.times(RUNS))
        return [*series, round_trips(url)]


def round_trips(url: str) -> Series:
    """How long a statement that does nothing takes there: the proof that the proxy delays."""
    series = Series("SELECT 1", "2 ms round trip", "ms")
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(PINGS):
            began = time.perf_counter()
            connection.execute("SELECT 1")
            series.values.append(1000 * (time.perf_counter() - began))
    return series


CASE = Case(
    "delay",
    "Drain with 2 ms of network delay",
    measure,
    [Requirement("2 ms round trip", 0.5, "x the drain without delay", without)],
    about=(
        "A proxy hands on what passes 1 ms later in each direction. The row of SELECT 1 shows "
        "what a statement takes there."
    ),
)
