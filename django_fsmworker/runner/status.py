"""The status of a runner: a picture of it at one moment, for people, tests and other processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django_fsmworker.runner.assembly import Parts
from django_fsmworker.runner.counters import NAMES, Counters
from django_fsmworker.runner.executors.executor import Executor
from django_fsmworker.runner.heartbeat import Report
from django_fsmworker.runner.in_flight.attempts import Work, attempts_of


@dataclass(frozen=True, slots=True)
class RunningCheck:
    """One call of a check that has been running for ``seconds``, with the keys of its rows."""

    model: str
    state: str
    keys: tuple[Any, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class ExecutorStatus:
    """The checks of the threads, or of the event loop.

    ``size`` is how many can run at once, 0 without a model that has such checks; ``waiting`` counts
    calls that are claimed and not started, ``abandoned`` those that were interrupted and go on.
    """

    size: int
    running: tuple[RunningCheck, ...]
    waiting: int
    abandoned: int


@dataclass(frozen=True, slots=True)
class HintsStatus:
    """Whether hints of every database arrive, and how many were received and sent here.

    ``unknown`` messages on their channel are no hints; they are ignored.
    """

    active: bool
    received: int
    unknown: int
    sent: int


@dataclass(frozen=True, slots=True)
class RunnerStatus:
    """A runner at one moment; read-only, and not kept up to date.

    ``exhausted``: no state is thought to have due rows. ``seconds_to_wait``: until the next look at
    the database, unless something wakes the runner. ``rounds``: how often the main loop has come
    round so far. ``suspended``: nothing is claimed until somebody resumes it.
    ``seconds_since_progress``: None before the start; infinity if rows are due, slots are free and
    nothing was claimed for a minute. ``unknown_to``: the databases in which it cannot give a sign
    of life. ``models_resting``: whose tables are not as the code expects them. ``draining``:
    nothing more is started.
    """

    worker: str
    stopping: bool
    draining: bool
    single_pass: bool
    exhausted: bool
    seconds_to_wait: float
    rounds: int
    in_flight: int
    threads: ExecutorStatus
    event_loop: ExecutorStatus
    hints: HintsStatus
    suspended: bool
    seconds_since_progress: float | None
    unknown_to: tuple[str, ...]
    databases_away: tuple[str, ...]
    models_resting: tuple[str, ...]
    counters: Mapping[str, int]


def status_of(
    parts: Parts,
    worker: str,
    counters: Counters,
    aliases: Iterable[str],
    *,
    stopping: bool,
    rounds: int,
    progressed_at: float | None,
) -> RunnerStatus:
    """The picture of the runner with these parts; on any thread."""
    hints, aliases = parts.hints, list(aliases)
    return RunnerStatus(
        worker=worker,
        stopping=stopping,
        draining=parts.ready.closed,
        single_pass=parts.claimer.single_pass,
        exhausted=parts.claimer.exhausted,
        seconds_to_wait=parts.claimer.seconds_to_wait(),
        rounds=rounds,
        suspended=parts.duty.suspended,
        seconds_since_progress=None if progressed_at is None else time.monotonic() - progressed_at,
        unknown_to=tuple(alias for alias in aliases if parts.duty.is_unknown(alias)),
        in_flight=parts.in_flight.held,
        threads=_executor(parts, is_async=False),
        event_loop=_executor(parts, is_async=True),
        hints=HintsStatus(hints.active, hints.received, hints.unknown, hints.sent),
        models_resting=tuple(model._meta.label for model in parts.outages.mismatches.resting()),
        databases_away=tuple(alias for alias in aliases if parts.outages.is_away(alias)),
        counters={name: counters.total(name) for name in NAMES},
    )


MOST_REPORTED = 10
MOST_KEYS = 5


def report_of(parts: Parts, counters: Counters, *, stopping: bool) -> Report:
    """What the runner with these parts says of itself in the registry."""
    running = [_running(work) for each in parts.executors for work in each.running()]
    longest = sorted(running, key=lambda check: -check.seconds)[:MOST_REPORTED]
    return Report(
        busy=bool(len(parts.in_flight)) or not parts.claimer.exhausted,
        stopping=stopping,
        in_flight=parts.in_flight.held,
        running=[
            {
                "model": check.model,
                "state": check.state,
                "keys": [str(key) for key in check.keys[:MOST_KEYS]],
                "seconds": round(check.seconds, 3),
            }
            for check in longest
        ],
        totals={name: counters.total(name) for name in NAMES},
        pace=parts.paces.report(),
    )


def together(own: Report, others: Iterable[Report]) -> Report:
    """What a runner says of itself where others are the same worker: numbers of all of them."""
    running, totals = list(own.running), Counter(own.totals)
    in_flight = own.in_flight
    for each in others:
        running += each.running
        in_flight += each.in_flight
        totals.update(each.totals)
    running.sort(key=lambda check: -check["seconds"])
    return replace(own, running=running[:MOST_REPORTED], in_flight=in_flight, totals=totals)


def _executor(parts: Parts, *, is_async: bool) -> ExecutorStatus:
    alike: list[Executor] = [each for each in parts.executors if each.is_async is is_async]
    return ExecutorStatus(
        size=sum(each.size for each in alike),
        running=tuple(_running(work) for each in alike for work in each.running()),
        waiting=parts.ready.waiting(is_async),
        abandoned=sum(each.abandoned for each in alike),
    )


def _running(work: Work) -> RunningCheck:
    now = time.monotonic()
    return RunningCheck(
        work.model._meta.label,
        work.state.name,
        tuple(attempt.pk for attempt in attempts_of(work)),
        now - (work.started or now),
    )
