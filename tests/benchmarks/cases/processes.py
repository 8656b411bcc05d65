"""Drain by one, two and four processes under one command."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

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
# Seconds that a process takes to start, at the most, and rows that are laid out in one.
TO_START, PREPARED = 2.0, 20_000


class Together(Engine):
    """Its rows become due when all processes are up: starting the second one is no part of it."""

    def __init__(self, number: int) -> None:
        super().__init__("Noop", options=["--processes", str(number)])
        self.ahead = timedelta(seconds=number * TO_START)

    def new_rows(self, number: int) -> list[Any]:
        due = timezone.now() + self.ahead + timedelta(seconds=number / PREPARED)
        return [
            self.model(state_next=due + timedelta(microseconds=position))
            for position in range(number)
        ]


def measure(bench: Bench) -> list[Series]:
    contenders = [Together(number) for number in NUMBERS]
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
        "`--processes` with 1, 2 and 4. All rows become due at once, when every process waits "
        "for them. The database has no processor of its own: it shares them with the workers."
    ),
)
