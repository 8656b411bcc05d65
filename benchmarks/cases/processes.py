"""Drain by one, two and four processes under one command."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.contenders import Contender, Engine, PeerContender
from benchmarks.peers.roster import PEERS
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import median, ratio

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
    """So many processes of ours, and as many of each peer, whose work is as much longer."""
    contenders: list[Contender] = [Together(number) for number in bench.some(NUMBERS)]
    most = bench.size(ROWS)
    numbers = [most] * len(contenders)
    for peer in bench.peers:
        for number in NUMBERS:
            setting = peer.best.together(number)
            contenders.append(PeerContender(peer, setting, bench.server))
            numbers.append(min(setting.jobs, most))
    return bench.race(contenders, numbers, bench.times(RUNS))


def ours(result: CaseResult, number: int) -> list[float]:
    return result.one("django-fsmworker", f"--processes {number}").values


def two(result: CaseResult) -> float:
    return ratio(ours(result, 2), ours(result, 1))


def of_the_fastest_peer(result: CaseResult) -> float:
    """At that number of processes which is the least favourable to us."""
    ratios = []
    for number in NUMBERS:
        names = {peer.name: peer.best.together(number).name for peer in PEERS}
        others = [
            median(each.values)
            for each in result.series
            if each.peer and each.values and names.get(each.name) == each.settings
        ]
        if not others:
            raise KeyError("no peer was measured")
        ratios.append(median(ours(result, number)) / max(others))
    return min(ratios)


CASE = Case(
    "processes",
    "Drain by several processes",
    measure,
    [
        Requirement("two processes on two cores", 1.2, "x one process", two, why=SHARED),
        Requirement(
            "processes, against as many of a peer",
            1.5,
            "x the fastest one at its best",
            of_the_fastest_peer,
        ),
    ],
    about=(
        "`--processes` with 1, 2 and 4, and as many processes of each peer at its best setting. "
        "All rows become due at once, when every process waits for them, and no peer's worker "
        "begins before all its processes are up. The database has no processor of its own: it "
        "shares them with the workers."
    ),
)
