"""Durable events: how fast they are delivered, how soon, and what others cost that fire later."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.cases.drain import without
from benchmarks.cases.latency import latencies
from benchmarks.contenders import ByHand, Delivery, Engine
from benchmarks.contenders import engine as ours
from benchmarks.contenders.events import BY_HAND
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import median, ratio

EVENTS, RUNS, SLOW = 20_000, 5, 4_000
AROUND, TINY = 1_000_000, 2_000
DELIVERED, BEHIND = "events", "behind others"


def delivery(bench: Bench) -> list[Series]:
    size = bench.size(EVENTS)
    contenders = [Engine("Noop"), Delivery(settings=DELIVERED), ByHand()]
    return bench.race(contenders, [size, size, min(size, SLOW)], bench.times(RUNS))


def behind(bench: Bench) -> list[Series]:
    around = Delivery(settings=BEHIND, around=bench.around(AROUND, TINY))
    return bench.race([Delivery(settings="default"), around], [bench.size(EVENTS)] * 2,
                      bench.times(RUNS))  # fmt: skip


def latency(bench: Bench) -> list[Series]:
    return [latencies(bench, Delivery(settings=DELIVERED))]


def against_a_loop(result: CaseResult) -> float:
    return ratio(result.one(ours.NAME, DELIVERED).values, result.one(BY_HAND).values)


def until_the_action(result: CaseResult) -> float:
    return median(result.one(ours.NAME, DELIVERED).values)


CASES = [
    Case(
        "events",
        "Delivery of durable events",
        delivery,
        [
            Requirement("delivery of events", 0.25, "x the drain of rows", without),
            Requirement("delivery of events", 3, "x a loop by hand", against_a_loop),
        ],
        about=(
            "Each row has 20 events, whose action notes them and asks the database nothing. The "
            "loop by hand takes one event after the other, locks its row, calls the action, and "
            "writes the event's end, in a transaction each, by Django's ORM."
        ),
    ),
    Case(
        "events-behind-1m",
        "Delivery of events behind 1,000,000 that fire in a year",
        behind,
        [Requirement("events behind 1,000,000 later ones", 0.9, "x without them", without)],
        about="The other events are of the same rows, and fire in a year or later.",
    ),
    Case(
        "event-latency",
        "From a submit to the event's action",
        latency,
        [Requirement("submit to action, median", 5, "ms", until_the_action, at_most=True)],
        about=(
            "A worker has nothing to do. About ten times a second somebody submits an event; from "
            "when that call returns it takes so long until its action begins. Hints are on."
        ),
    ),
]
