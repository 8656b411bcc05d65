"""Moving rows by code: one, and many, against a bare ``update()`` of the same columns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.db.models.functions import Now

from benchmarks import database
from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import ratio

SINGLES, ROWS, RUNS, BATCH = 1_000, 20_000, 5, 5_000
OURS, BARE = "django-fsmworker", "update()"
ONE, MANY = "one row", "many rows"
ASKED = "The statement asks whether the move is allowed, whether a runner holds the row, and more."
LOCKED = "The rows are locked in the order of their keys first, so that no two moves can deadlock."

Move = Callable[[Any], int]


def measure(bench: Bench) -> list[Series]:
    series = {(name, how): Series(name, how, "rows/s") for how in (ONE, MANY) for name in MOVES}
    model = apps.get_app_config("benchmarks").get_model("Noop")
    for run in range(bench.times(RUNS)):
        # The contenders take turns at being the first.
        for name in sorted(MOVES, reverse=bool(run % 2)):
            for how, number in ((ONE, SINGLES), (MANY, ROWS)):
                size = bench.size(number)
                series[name, how].number = size
                series[name, how].values.append(rate(model, MOVES[name][how], size))
    return list(series.values())


def rate(model: Any, move: Move, number: int) -> float:
    """Rows per second, of as many as the table has."""
    database.empty("default", model)
    model.objects.bulk_create([model() for _ in range(number)], batch_size=BATCH)
    database.tidy("default", model)
    began = time.perf_counter()
    moved = move(model)
    seconds = time.perf_counter() - began
    if moved != number or model.objects.in_state("done").count() != number:
        raise RuntimeError(f"{moved} rows were moved instead of {number}")
    return number / seconds


def each(verb: Callable[[Any], object]) -> Move:
    """The move of all rows, one by one, by ``verb``; they are read at once."""

    def move(model: Any) -> int:
        rows = list(model.objects.all())
        for row in rows:
            verb(row)
        return len(rows)

    return move


def update(rows: Any) -> int:
    number: int = rows.update(state="done", state_changed=Now(), state_next=None)
    return number


MOVES: dict[str, dict[str, Move]] = {
    BARE: {
        ONE: each(lambda row: update(type(row).objects.filter(pk=row.pk))),
        MANY: lambda model: update(model.objects.all()),
    },
    OURS: {
        ONE: each(lambda row: row.state_move("done")),
        MANY: lambda model: model.state_transition_queryset(model.objects.all(), "done"),
    },
}


def against_bare(how: str) -> Callable[[CaseResult], float]:
    return lambda result: ratio(result.one(OURS, how).values, result.one(BARE, how).values)


CASE = Case(
    "moving",
    "Moving rows by code",
    measure,
    [
        Requirement("moving one row", 0.4, "x a bare update()", against_bare(ONE), why=ASKED),
        Requirement("moving many rows", 0.66, "x a bare update()", against_bare(MANY), why=LOCKED),
    ],
    about=(
        "A bare update() writes the state, its time of entry and its due time; it does not ask "
        "whether a move is allowed, locks in no order, and leaves failures and claims as they are."
    ),
)
