"""Three states in a row: each step a transition of its own, with less than two writes."""

from __future__ import annotations

from benchmarks.app.steps import STEPS
from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.cases.drain import without
from benchmarks.contenders import Engine
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import median

ROWS, RUNS = 20_000, 5
CHAIN = "three states"


def measure(bench: Bench) -> list[Series]:
    rows = bench.size(ROWS)
    chain = Engine("Chain", settings=CHAIN, target="last", steps=STEPS)
    # As many transitions in both: the single steps have more rows.
    return bench.race(
        [Engine("Noop"), chain], [STEPS * rows, rows], bench.times(RUNS), "transitions/s"
    )


def writes(result: CaseResult) -> float:
    """Row versions written for each transition, by the database's count."""
    return median(result.one("django-fsmworker", CHAIN).extra["updates"])


CASE = Case(
    "chain",
    "Rows that go through three states",
    measure,
    [
        Requirement(
            "three-state chain",
            1.5,
            "writes per transition",
            writes,
            at_most=True,
            otherwise=Requirement(
                "three-state chain", 2.0, "x the transitions/s of single steps", without
            ),
        )
    ],
    about=(
        "A row that is due again at once after a transition stays in the same hands, and each "
        "step is one write. A single step takes two, its claim and its settling. Transitions "
        "per second, as many in both."
    ),
)
