"""The tables, as cells: what has to hold and was reached, and every series behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.cases import CASES
from benchmarks.requirements import Line, line
from benchmarks.results import CaseResult, Results, Series
from benchmarks.statistics import median

Table = list[Sequence[str]]

LINES_HEAD = ("case", "what", "has to be", "reached", "holds")
SERIES_HEAD = (
    "who",
    "settings",
    "median",
    "min – max",
    "runs",
    "CPU µs",
    "idle %",
    "xact",
    "WAL B",
    "HOT",
)
COSTS = ("processor_us", "idle_percent", "transactions", "wal_bytes", "hot_updates")


def lines(results: Results) -> list[Line]:
    """Every requirement of every case, also of those that were not measured."""
    return [
        line(requirement, case.name, results.cases.get(case.name))
        for case in CASES.values()
        for requirement in case.requirements
    ]


def lines_table(some: Sequence[Line]) -> Table:
    return [
        LINES_HEAD,
        *((each.case, each.what, each.target, each.reached, each.verdict.value) for each in some),
    ]


def series_table(case: CaseResult) -> Table:
    return [SERIES_HEAD, *(_cells(each) for each in case.series if each.values)]


def measured(results: Results) -> Iterator[tuple[str, CaseResult]]:
    """The cases that were measured, with their titles, in the order of the page."""
    for name, case in CASES.items():
        if name in results.cases:
            yield case.title, results.cases[name]


def _cells(series: Series) -> tuple[str, ...]:
    values = series.values
    return (
        series.name,
        series.settings,
        f"{number(median(values))} {series.unit}",
        f"{number(min(values))} – {number(max(values))}",
        str(len(values)),
        *(_cost(series, name) for name in COSTS),
    )


def _cost(series: Series, name: str) -> str:
    values = series.extra.get(name)
    return number(median(values)) if values else ""


def facts_in_words(facts: Mapping[str, str]) -> list[str]:
    """A peer's requirements name it themselves."""
    return [value if "==" in value else f"{name} {value}" for name, value in facts.items()]


def number(value: float) -> str:
    """Three digits at least, and no more decimals than that takes."""
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{decimals}f}"
