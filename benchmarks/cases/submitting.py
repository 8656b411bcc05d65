"""Writing durable events, one and many, against a plain model with the same columns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.apps import apps

from benchmarks import database
from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.contenders.events import events
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import ratio

SINGLES, EVENTS, RUNS, TURNS, BATCH = 2_000, 20_000, 5, 10, 5_000
OURS, PLAIN = "django-fsmworker", "plain model"
ONE, MANY = "one by one", "many"

Make = Callable[[Any, int], None]


def measure(bench: Bench) -> list[Series]:
    series = {
        (name, how): Series(name, how, "events/s") for how in (ONE, MANY) for name in (PLAIN, OURS)
    }
    row = _model("Receiver").objects.create()
    for _ in range(bench.times(RUNS)):
        for how, number in ((ONE, SINGLES), (MANY, EVENTS)):
            size = bench.size(number) // TURNS * TURNS
            for name, rate in rates(row, how, size).items():
                series[name, how].number = size
                series[name, how].values.append(rate)
    return list(series.values())


def rates(row: Any, how: str, number: int) -> dict[str, float]:
    """Events per second; both take turns, since a machine may be slow for a second or two."""
    models = {PLAIN: _model("PlainEvent"), OURS: events()}
    for model in models.values():
        database.empty("default", model)
        database.tidy("default", model)
    seconds = dict.fromkeys(models, 0.0)
    for turn in range(TURNS):
        for name in sorted(models, reverse=bool(turn % 2)):
            began = time.perf_counter()
            MAKERS[name, how](row, number // TURNS)
            seconds[name] += time.perf_counter() - began
    for model in models.values():
        if model.objects.count() != number:
            raise RuntimeError(f"{model.objects.count()} events were made instead of {number}")
    return {name: number / seconds[name] for name in models}


def submit_one_by_one(row: Any, number: int) -> None:
    from django_fsmworker.events import submit_event

    for n in range(number):
        submit_event(row, "poke", {"n": n})


def submit_many(row: Any, number: int) -> None:
    from django_fsmworker.events import Submission, submit_events

    submit_events([Submission(row, "poke", {"n": n}) for n in range(number)])


def create_one_by_one(row: Any, number: int) -> None:
    model = _model("PlainEvent")
    for n in range(number):
        model.objects.create(**_columns(row, n))


def create_many(row: Any, number: int) -> None:
    model = _model("PlainEvent")
    model.objects.bulk_create([model(**_columns(row, n)) for n in range(number)], batch_size=BATCH)


def _columns(row: Any, n: int) -> dict[str, Any]:
    return {
        "model": row._meta.label,
        "row": str(row.pk),
        "row_hash": row.pk,
        "trigger": "poke",
        "context": {"n": n},
    }


def _model(name: str) -> Any:
    return apps.get_model("benchmarks", name)


MAKERS: dict[tuple[str, str], Make] = {
    (OURS, ONE): submit_one_by_one,
    (OURS, MANY): submit_many,
    (PLAIN, ONE): create_one_by_one,
    (PLAIN, MANY): create_many,
}


def against_plain(how: str) -> Callable[[CaseResult], float]:
    """How many times as long an event takes as a row of the plain model."""
    return lambda result: ratio(result.one(PLAIN, how).values, result.one(OURS, how).values)


CASE = Case(
    "submit",
    "Submitting durable events",
    measure,
    [
        Requirement(
            "submitting one event", 1.2, "x the time of create()", against_plain(ONE), at_most=True
        ),
        Requirement(
            "submitting many events", 1.2, "x the time of bulk_create()", against_plain(MANY),
            at_most=True,
        ),
    ],
    about=(
        "The plain model has the same columns and the same indexes as the record of an event, by "
        "fields of Django. A submit looks at permission and context, is dated by the database, "
        "and sends a hint."
    ),
)  # fmt: skip
