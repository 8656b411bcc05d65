"""Making rows: ``create()`` and ``bulk_create()``, against a plain model with the same columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from django.apps import apps

from benchmarks import database
from benchmarks.bench import Bench, say
from benchmarks.cases.case import Case
from benchmarks.contenders import PeerContender
from benchmarks.peers.roster import Peer
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import median, ratio

SINGLES, ROWS, RUNS, TURNS = 2_000, 20_000, 5, 10
PEER_JOBS = 2_000
BATCH = 5_000
OURS, PLAIN = "django-fsmworker", "plain model"
STATE = (
    "Each row's state is looked up and its due time computed when it is saved, and its columns "
    "notice what is assigned to them."
)
ONE, MANY = "create()", "bulk_create()"


def measure(bench: Bench) -> list[Series]:
    series = {
        (name, how): Series(name, how, "rows/s") for how in (ONE, MANY) for name in (PLAIN, OURS)
    }
    labels = {PLAIN: "Plain", OURS: "Noop"}
    models = {name: apps.get_model("benchmarks", label) for name, label in labels.items()}
    for _ in range(bench.times(RUNS)):
        for how, make, number in ((ONE, one_by_one, SINGLES), (MANY, at_once, ROWS)):
            size = bench.size(number) // TURNS * TURNS
            for name, rate in rates(models, make, size).items():
                series[name, how].number = size
                series[name, how].values.append(rate)
    return [*series.values(), *peers(bench)]


def rates(
    models: dict[str, Any], make: Callable[[Any, int], None], number: int
) -> dict[str, float]:
    """Rows per second; the models take turns, since a machine may be slow for a second or two."""
    for model in models.values():
        database.empty("default", model)
        database.tidy("default", model)
    seconds = dict.fromkeys(models, 0.0)
    for turn in range(TURNS):
        for name in sorted(models, reverse=bool(turn % 2)):
            began = time.perf_counter()
            make(models[name], number // TURNS)
            seconds[name] += time.perf_counter() - began
    for model in models.values():
        made = model.objects.count()
        if made != number:
            raise RuntimeError(f"{made} rows were made instead of {number}")
    return {name: number / seconds[name] for name in models}


def one_by_one(model: Any, number: int) -> None:
    for _ in range(number):
        model.objects.create()


def at_once(model: Any, number: int) -> None:
    model.objects.bulk_create([model() for _ in range(number)], batch_size=BATCH)


def peers(bench: Bench) -> list[Series]:
    """How fast each peer takes a job, and many; those without means for many say it twice."""
    return [series for peer in bench.peers for series in of_a_peer(bench, peer)]


def of_a_peer(bench: Bench, peer: Peer) -> Iterator[Series]:
    contender, number = PeerContender(peer, peer.default, bench.server), bench.size(PEER_JOBS)
    for how, verb in (("one by one", "singles"), ("many", "fill")):
        found = Series(peer.name, how, "jobs/s", True, number=number)
        for _ in range(bench.times(RUNS)):
            contender.install()
            found.values.append(number / contender.say(verb, 1, number))
        say(f"  {found.name} ({how}): {median(found.values):,.0f} {found.unit}")
        yield found


def against_plain(how: str) -> Callable[[CaseResult], float]:
    return lambda result: ratio(result.one(OURS, how).values, result.one(PLAIN, how).values)


CASE = Case(
    "enqueue",
    "Making rows",
    measure,
    [
        Requirement(
            "creating rows one by one", 0.9, "x a plain model", against_plain(ONE), why=STATE
        ),
        Requirement("creating many rows", 0.9, "x a plain model", against_plain(MANY), why=STATE),
    ],
    about=(
        "The plain model has the same columns and the same index, by fields of Django. A peer "
        "has one call for a job, and one for many if it has any."
    ),
)
