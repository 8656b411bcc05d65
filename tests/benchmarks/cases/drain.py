"""Drain: due rows whose check does nothing, against raw SQL and against peers."""

from __future__ import annotations

from tests.benchmarks.bench import Bench
from tests.benchmarks.cases.case import Case
from tests.benchmarks.contenders import Contender, Engine, PeerContender, RawSQL
from tests.benchmarks.contenders import engine as ours
from tests.benchmarks.contenders import raw as floor
from tests.benchmarks.requirements import Requirement
from tests.benchmarks.results import CaseResult, Series
from tests.benchmarks.statistics import median, ratio

ROWS, RUNS = 50_000, 5
SECONDS = 60.0

PYTHON = (
    "A row costs the engine an object, a thread's turn and a call of the check, which raw SQL does "
    "not have: the column of processor time has both."
)


def measure(bench: Bench) -> list[Series]:
    """The floors, the engine, and each peer at its default and at its best setting, in turns."""
    contenders: list[Contender] = [RawSQL("Noop"), RawSQL("Noop", settings="tuned"), Engine("Noop")]
    most = bench.size(ROWS)
    numbers = [most] * len(contenders)
    for peer in bench.peers:
        for setting in (peer.default, peer.best):
            contenders.append(PeerContender(peer, setting, bench.server))
            numbers.append(min(setting.jobs, most))
    return bench.race(contenders, numbers, bench.times(RUNS), seconds=SECONDS)


def of_the_floor(result: CaseResult, settings: str = "plain") -> float:
    return ratio(result.one(ours.NAME).values, result.one(floor.NAME, settings).values)


def without(result: CaseResult) -> float:
    """What is left of the plain drain in the second series, which has something in its way."""
    plain = result.one(ours.NAME, "default")
    others = [
        each
        for each in result.series
        if each.name == ours.NAME and each.settings != "default" and each.values
    ]
    if not others:
        raise KeyError(f"{result.name} has the plain drain only")
    return ratio(others[0].values, plain.values)


def of_the_fastest_peer(result: CaseResult) -> float:
    others = [each for each in result.series if each.peer and each.values]
    if not others:
        raise KeyError("no peer was measured")
    return median(result.one(ours.NAME).values) / max(median(each.values) for each in others)


CASE = Case(
    "drain",
    "Drain of rows whose check does nothing",
    measure,
    [
        Requirement("drain, against plain SQL", 1.0, "x the serial raw SQL", of_the_floor),
        Requirement(
            "drain, against tuned SQL",
            1.0,
            "x the serial raw SQL",
            lambda result: of_the_floor(result, "tuned"),
            why=PYTHON,
        ),
        Requirement(
            "drain, against peers", 1.5, "x the fastest one at its best", of_the_fastest_peer
        ),
    ],
    ("postgresql", "mysql"),
    about=(
        "Rows lie due, a worker is started, and the clock runs from its first check to its "
        "last write. The check does nothing but note its row. Raw SQL is the floor: it claims "
        "and settles in batches of 1,000 by hand-written statements, one after the other, and "
        "builds no objects. Written plainly, its settling statement makes PostgreSQL read the "
        "whole table for every batch, so its rate falls with the number of rows; tuned, it "
        "does not. Peers have a job for each row, whose handler does the same as the check."
    ),
)
