"""Drain by one, two and four processes under one command."""

from __future__ import annotations

from tests.benchmarks.bench import Bench
from tests.benchmarks.cases.case import Case
from tests.benchmarks.contenders import Engine
from tests.benchmarks.requirements import Requirement
from tests.benchmarks.results import CaseResult, Series
from tests.benchmarks.statistics import ratio

ROWS, RUNS = 100_000, 3
SHARED = (
    "The database works on the same processors. One process and its sessions leave so much of them "
    "idle as the column says; all that a second one can add is in there."
)
NUMBERS = (1, 2, 4)


def measure(bench: Bench) -> list[Series]:
    contenders = [Engine("Noop", options=["--processes", str(number)]) for number in NUMBERS]
    return bench.race(contenders, [bench.size(ROWS)] * len(NUMBERS), bench.times(RUNS))


def two(result: CaseResult) -> float:
    one, both = (result.one("django-fsmworker", f"--processes {number}") for number in (1, 2))
    return ratio(both.values, one.values)


CASE = Case(
    "processes",
    "Drain by several processes",
    measure,
    [Requirement("two processes on two cores", 1.2, "x one process", two, why=SHARED)],
    about=(
        "`--processes` with 1, 2 and 4. The database has no processor of its own: it shares "
        "them with the workers."
    ),
)
