"""Drain: due rows whose check does nothing, against raw SQL and against peers."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.contenders import Contender, DurableEngine, Engine, PeerContender, RawSQL
from benchmarks.contenders import engine as ours
from benchmarks.contenders import raw as floor
from benchmarks.contenders.engine import CLAIMS_WAIT
from benchmarks.contenders.peer import NOTHING_WAITS
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import median, ratio

ROWS, RUNS = 50_000, 5
SECONDS = 60.0

PYTHON = (
    "A row costs the engine an object, a thread's turn and a call of the check, which raw SQL does "
    "not have: the column of processor time has both."
)


def measure(bench: Bench) -> list[Series]:
    """
    The floors, the engine, and each peer at its default and at its best setting, in turns.

    Our claims do not wait for the disk, and all that peers write does; so each side runs with the
    other's durability, too.
    """
    contenders: list[Contender] = [
        RawSQL("Noop", settings="plain"), RawSQL("Noop"), Engine("Noop"), *durable(bench)
    ]  # fmt: skip
    most = bench.size(ROWS)
    numbers = [most] * len(contenders)
    for peer in bench.peers:
        for setting, waits in ((peer.default, True), (peer.best, True), (peer.best, False)):
            contenders.append(PeerContender(peer, setting, bench.server, waits=waits))
            numbers.append(min(setting.jobs, most))
    return bench.race(contenders, numbers, bench.times(RUNS), seconds=SECONDS)


def durable(bench: Bench) -> list[Contender]:
    """The engine with the peers' durability, where a claim's is another one than a write's."""
    return [DurableEngine("Noop")] if bench.server.startswith("postgres") else []


def of_the_floor(result: CaseResult) -> float:
    return ratio(result.one(ours.NAME).values, result.one(floor.NAME, floor.TUNED).values)


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


def of_the_fastest_peer(settings: str, waits: bool) -> Callable[[CaseResult], float]:
    """Ours at `settings`, against the fastest peer that waits for the disk, or does not."""

    def reached(result: CaseResult) -> float:
        others = [
            each.values
            for each in result.series
            if each.peer and each.values and waits is not each.settings.endswith(NOTHING_WAITS)
        ]
        if not others:
            raise KeyError("no peer was measured")
        return median(result.one(ours.NAME, settings).values) / max(map(median, others))

    return reached


CASE = Case(
    "drain",
    "Drain of rows whose check does nothing",
    measure,
    [
        Requirement(
            "drain, against raw SQL", 1.0, "x the serial raw SQL", of_the_floor, why=PYTHON
        ),
        Requirement(
            "drain, against peers",
            1.5,
            "x the fastest one at its best",
            of_the_fastest_peer("default", waits=True),
        ),
        Requirement(
            "drain, against peers, all waiting for the disk",
            1.5,
            "x the fastest one at its best",
            of_the_fastest_peer(CLAIMS_WAIT, waits=True),
        ),
        Requirement(
            "drain, against peers that wait for nothing",
            1.5,
            "x the fastest one at its best",
            of_the_fastest_peer("default", waits=False),
        ),
    ],
    ("postgresql", "mysql"),
    about=(
        "Rows lie due, a worker is started, and the clock runs from its first check to its "
        "last write. The check does nothing but note its row. Raw SQL is the floor: it claims "
        "and settles in batches of 1,000 by hand-written statements, one after the other, and "
        "builds no objects. Written plainly, its settling statement makes PostgreSQL read the "
        "whole table for every batch, so its rate falls with the number of rows; tuned, it "
        "does not, and only the tuned one is what others are held against. Peers have a job for "
        "each row, whose handler does the same as the check. Our claims do not wait for the "
        "disk, and all that peers write does: `claims wait for the disk` is ours with the peers' "
        "durability. No peer can be told to wait with its results only, so `nothing waits for "
        "the disk` is more than ours has: neither their claims nor their results wait."
    ),
)
