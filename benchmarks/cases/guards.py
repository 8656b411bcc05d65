"""Guards: rows that a query moves, and a great many rows that it leaves where they are."""

from __future__ import annotations

import tempfile
from pathlib import Path

from django.db import connection

from benchmarks import costs, database
from benchmarks.bench import Bench, say
from benchmarks.cases.case import Case
from benchmarks.contenders import Engine, RawSQL
from benchmarks.contenders.rows import RowContender
from benchmarks.processes import Worker, WorkerFailed
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import median, ratio

ROWS, FALSE, RUNS = 200_000, 1_000_000, 5
TINY = 6_000
SECONDS = 120.0
RAW, OURS = "lock and update", "default"
SWEEP, LOG = "1,000,000 guards false: a sweep", "1,000,000 guards false: its log"

FILL = """
    INSERT INTO benchmarks_guarded (state, state_next, ready)
    SELECT 'new', NULL, {ready} FROM generate_series(1, {number}) AS n"""

# From the moment the first rows were moved to that of the last; how many of them came after it.
SPAN = """
    WITH first AS MATERIALIZED (
        SELECT min(state_changed) AS moment FROM benchmarks_guarded WHERE state = 'done')
    SELECT count(*) FILTER (WHERE state_changed > first.moment),
        coalesce(extract(epoch FROM max(state_changed) - first.moment), 0)::float8
    FROM benchmarks_guarded, first WHERE state = 'done' GROUP BY first.moment"""


class Guarded(Engine):
    def __init__(self, settings: str = OURS) -> None:
        super().__init__("Guarded", settings=settings)


class LockAndUpdate(RawSQL):
    """The same rows in batches of as many, by two statements in one, and nothing else."""

    def __init__(self) -> None:
        super().__init__("Guarded", settings=RAW)

    def start(self, folder: Path) -> Worker:
        command = self.python("-m", "benchmarks.floor.guard", self.model._meta.db_table)
        return Worker(command, self.environment(folder), folder)


def measure(bench: Bench) -> list[Series]:
    return [*true_ones(bench), *false_ones(bench)]


def true_ones(bench: Bench) -> list[Series]:
    """Rows a second, in turns with raw SQL."""
    contenders = [LockAndUpdate(), Guarded()]
    number = bench.size(ROWS, TINY)
    series = [Series(each.name, each.settings, "rows/s", number=number) for each in contenders]
    for _ in range(bench.times(RUNS)):
        for contender, each in zip(contenders, series, strict=True):
            spent = sweep(contender, number, "true")
            later, seconds = span()
            each.values.append(later / seconds if seconds else 0.0)
            each.problems += proof(contender, spent["updates"], number)
            each.extra.setdefault("wal_bytes", []).append(spent["wal_bytes"] / number)
            say(f"  {each.name} ({each.settings}): {each.values[-1]:,.0f} rows/s")
    return series


def false_ones(bench: Bench) -> list[Series]:
    """Only the first and the last row are to be moved: between them lies a sweep."""
    number = bench.around(FALSE, TINY)
    contender = Guarded(SWEEP)
    time = Series(contender.name, SWEEP, "s", number=number)
    log = Series(contender.name, LOG, "MB", number=number)
    for _ in range(min(3, bench.times(RUNS))):
        spent = sweep(contender, number, f"n IN (1, {number})")
        time.values.append(span()[1])
        log.values.append(spent["wal_bytes"] / 2**20)
        time.problems += proof(contender, spent["updates"], 2)
        say(f"  {SWEEP}: {time.values[-1]:.2f} s, {log.values[-1]:.2f} MB")
    return [time, log]


def sweep(contender: RowContender, number: int, ready: str) -> costs.Counters:
    """Lay out the rows, let them be moved up to the last one, and say what that cost."""
    database.empty("default", contender.model)
    with connection.cursor() as cursor:
        cursor.execute(FILL.format(ready=ready, number=number))
    database.tidy("default", contender.model)
    last = contender.rows.order_by("-pk").values_list("pk", flat=True)[0]
    before = contender.counters()
    with tempfile.TemporaryDirectory(prefix="fsmworker-benchmark-") as folder:
        worker = contender.start(Path(folder))
        try:
            moved = contender.rows.filter(pk=last, state="done").exists
            if worker.wait_for(moved, SECONDS, every=0.05) is None:
                raise WorkerFailed(f"{contender.name} did not get to the last of {number:,} rows")
        finally:
            worker.stop()
    return costs.each(contender.counters(), before, 1)


def span() -> tuple[int, float]:
    with connection.cursor() as cursor:
        cursor.execute(SPAN)
        later, seconds = cursor.fetchone()
        return int(later), float(seconds)


def proof(contender: RowContender, updates: float, number: int) -> list[str]:
    """There is no check that could note its row: each was written once, and none is left."""
    left = contender.rows.filter(state="new", ready=True).count()
    wrong = [f"{left:,} are not finished in the store"] if left else []
    return wrong + ([f"{updates:,.0f} updates of {number:,} rows"] if updates != number else [])


def of_the_floor(result: CaseResult) -> float:
    return ratio(result.one(Guarded.name, OURS).values, result.one(LockAndUpdate.name).values)


CASE = Case(
    "guards",
    "Rows that are moved by a query",
    measure,
    [
        Requirement("guards that are true", 0.7, "x a bare lock and update", of_the_floor),
        Requirement(
            "1,000,000 guards that are false",
            2.0,
            "s a sweep",
            lambda result: median(result.one(Guarded.name, SWEEP).values),
            at_most=True,
        ),
        Requirement(
            "1,000,000 guards that are false",
            1.0,
            "MB of log",
            lambda result: median(result.one(Guarded.name, LOG).values),
            at_most=True,
        ),
    ],
    about=(
        "The state has no check, only a guard that compares a column: its rows are swept in the "
        "order of their keys. The rate is that between the first and the last write, by the "
        "database's clock. Where guards are false, only the first and the last row have true ones, "
        "and the time between their writes is that of a sweep; the log is that of the whole "
        "process, its start included."
    ),
)
