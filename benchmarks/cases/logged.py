"""Drain of rows whose transitions are logged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import database
from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.cases.drain import without
from benchmarks.contenders import Engine
from benchmarks.requirements import Requirement
from benchmarks.results import Series

ROWS, RUNS = 20_000, 5


def records() -> Any:
    """The log's model; rendering a report has no settings, and imports this module, too."""
    from django_fsmworker.models import TransitionRecord

    return TransitionRecord


class Logged(Engine):
    """The log is empty at first, and has an entry for each row at last."""

    def prepare(self, number: int) -> Sequence[int]:
        database.empty(self.alias, records())
        return super().prepare(number)

    def left(self) -> int:
        entries = records().objects.using(self.alias).filter(target=self._target)
        return super().left() or len(self._keys) - entries.count()


def measure(bench: Bench) -> list[Series]:
    contenders = [Engine("Noop"), Logged("Logged", settings="logged")]
    return bench.race(contenders, [bench.size(ROWS)] * 2, bench.times(RUNS))


CASE = Case(
    "logged",
    "Drain of rows whose transitions are logged",
    measure,
    [Requirement("transition log", 0.75, "x the drain without it", without)],
    ("postgresql", "mysql", "sqlite"),
    about=(
        "The same rows, of a model with `log_transitions = True`: with each row's transition an "
        "entry of its log is written, into a table with an index of its own."
    ),
)
