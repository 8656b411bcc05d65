"""From idle: how soon a row runs that somebody makes due, or that becomes due by itself."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench, say
from benchmarks.cases.case import Case
from benchmarks.contenders import Contender, Engine, PeerContender
from benchmarks.processes import WorkerFailed
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.service import serving
from benchmarks.statistics import median, percentile

JOBS, APART, QUIET = 200, 0.1, 2.0
MADE, TIMER = "default", "start_after=0.2"
OURS = "django-fsmworker"


def measure(bench: Bench) -> list[Series]:
    contenders: list[Contender] = [Engine("Noop"), Engine("Timer", settings=TIMER)]
    contenders += [PeerContender(peer, peer.default, bench.server) for peer in bench.peers]
    return [latencies(bench, each) for each in contenders]


def latencies(bench: Bench, contender: Contender) -> Series:
    """Milliseconds, one value a piece of work; below zero if it began before the call was back."""
    series = Series(contender.name, contender.settings, "ms", contender.peer)
    series.number = bench.size(JOBS, 20)
    try:
        with serving(contender, bench.seconds(QUIET)) as service:
            handed = contender.hand_over(series.number, APART)
            service.keys += handed
            series.problems = service.problems()
            began = {key: moment for key, moment in service.log.entries() if key in handed}
    except WorkerFailed as error:
        series.problems.append(str(error))
        return series
    series.values = [1000 * (began[key] - handed[key]) for key in handed if key in began]
    say(f"  {series.name} ({series.settings}): median {median(series.values):.2f} ms")
    return series


def ours(settings: str, number: Callable[[list[float]], float]) -> Callable[[CaseResult], float]:
    return lambda result: number(result.one(OURS, settings).values)


def p99(values: list[float]) -> float:
    return percentile(values, 99)


def of_the_best_peer(result: CaseResult) -> float:
    peers = [p99(each.values) for each in result.series if each.peer and each.values]
    if not peers:
        raise KeyError("no peer was measured")
    return p99(result.one(OURS, MADE).values) / min(peers)


CASE = Case(
    "latency",
    "From idle to the start of the check",
    measure,
    [
        Requirement("wake-up by a hint, median", 2, "ms", ours(MADE, median), at_most=True),
        Requirement("wake-up by a hint, p99", 6, "ms", ours(MADE, p99), at_most=True),
        Requirement(
            "wake-up by a hint, p99", 1.5, "x the best peer's", of_the_best_peer, at_most=True
        ),
        Requirement(
            "wake-up by timer, median", 10, "ms after due", ours(TIMER, median), at_most=True
        ),
    ],
    about=(
        "A worker has nothing to do. About ten times a second somebody commits a row, or "
        "enqueues a job; from when that call returns it takes so long until the check, or the "
        "handler, begins. Hints are on, which is the default. Rows with start_after are late "
        "from the moment at which they are due. Below zero: the check began before the caller "
        "was back."
    ),
)
