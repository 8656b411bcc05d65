"""Drain of rows whose runner is watched, and of rows that are limited across the fleet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.contenders import Engine
from benchmarks.contenders import engine as ours
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import ratio

ROWS, RUNS = 50_000, 5
CUSTOMERS = 50
METRICS, LIMITED, KEYED = "metrics", "limit", f"limit of each of {CUSTOMERS} keys"


class Keyed(Engine):
    """The rows of several customers, in turns."""

    def new_rows(self, number: int) -> list[Any]:
        return [self.model(customer=at % CUSTOMERS) for at in range(number)]


def measure(bench: Bench) -> list[Series]:
    contenders = [
        Engine("Noop"),
        Engine("Noop", settings=METRICS, options=("--health-port", "0")),
        Engine("Limited", settings=LIMITED),
        Keyed("Keyed", settings=KEYED),
    ]
    return bench.race(contenders, [bench.size(ROWS)] * len(contenders), bench.times(RUNS))


def against_the_plain_drain(settings: str) -> Callable[[CaseResult], float]:
    """What is left of the plain drain with these settings."""

    def left(result: CaseResult) -> float:
        plain = result.one(ours.NAME, "default")
        return ratio(result.one(ours.NAME, settings).values, plain.values)

    return left


CASE = Case(
    "watched",
    "Drain with metrics, and with limits across the fleet",
    measure,
    [
        Requirement("metrics", 0.95, "x the drain without", against_the_plain_drain(METRICS)),
        Requirement("a limit", 0.85, "x the drain without", against_the_plain_drain(LIMITED)),
        Requirement(
            "a limit of each key", 0.85, "x the drain without", against_the_plain_drain(KEYED)
        ),
    ],
    ("postgresql",),
    about=(
        "The rows of the drain; with what counts and times them for Prometheus (`--health-port`); "
        "of a state with a limit of its own; and of one with a limit for each customer, of whom "
        "there are 50. No limit is reached: what is seen is the cost of asking for permits, and "
        "with keys that of one more index and column."
    ),
)
