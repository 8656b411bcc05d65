"""Async checks that wait 100 ms for something else, a thousand at once in one process."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.contenders import Engine
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import median

ROWS, RUNS = 30_000, 3
AT_ONCE = "1000"


def measure(bench: Bench) -> list[Series]:
    engine = Engine("Sleeper", options=["--async-concurrency", AT_ONCE])
    return bench.race([engine], [bench.size(ROWS)], bench.times(RUNS), "checks/s")


def rate(result: CaseResult) -> float:
    return median(result.one("django-fsmworker").values)


CASE = Case(
    "async",
    "Async checks of 100 ms, 1,000 at once",
    measure,
    [Requirement("1,000 checks of 100 ms at once", 5000, "checks/s a process", rate, digits=0)],
    about=(
        "Every check waits 100 ms for something else, as one does that asks a server. One "
        "process, `--async-concurrency 1000`."
    ),
)
