"""Measurements of a runner for its metrics: taken only where somebody can ask for them."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.in_flight.attempts import Attempt
from django_fsmworker.store import Ending, Outcome

SECONDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
CLAIM_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
ROWS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)


def can_be_shown() -> bool:
    """Whether the client library of Prometheus is installed."""
    return find_spec("prometheus_client") is not None


@dataclass(slots=True)
class Histogram:
    """How many values were at most each of ``bounds``, but above the bound before, or above all."""

    bounds: Sequence[float]
    counts: list[int] = field(init=False)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: Iterable[float]) -> None:
        """Count many values, of which there may be a thousand for every write."""
        ordered = sorted(values)
        below = 0
        for number, bound in enumerate(self.bounds):
            upto = bisect_right(ordered, bound, below)
            self.counts[number] += upto - below
            below = upto
        self.counts[-1] += len(ordered) - below
        self.sum += sum(ordered)


Histograms = defaultdict[tuple[str, ...], Histogram]


class Measurements:
    """What attempts came to and how long they took, since the start; any thread may measure.

    All is kept by labels, of which there are as many as the graphs have states and transitions: a
    row's own data is none of them.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.attempts: Counter[tuple[str, ...]] = Counter()
        self.transitions: Counter[tuple[str, ...]] = Counter()
        self.attempt_seconds = Histograms(partial(Histogram, SECONDS))
        self.queue_seconds = Histograms(partial(Histogram, SECONDS))
        self.claim_seconds = Histograms(partial(Histogram, CLAIM_SECONDS))
        self.batch_sizes = Histograms(partial(Histogram, ROWS))

    @classmethod
    def of(cls, settings: RunnerSettings) -> Measurements | None:
        """None where nobody can ask for them: there is no port, or no client library."""
        return cls() if settings.health_port is not None and can_be_shown() else None

    def claimed(self, model: Any, seconds: float) -> None:
        """Note how long a statement took that claims rows of ``model``."""
        with self.lock:
            self.claim_seconds[model._meta.label,].observe(seconds)

    def settled(self, model: Any, pairs: Iterable[tuple[Attempt, Outcome]]) -> None:
        """Note the attempts that were settled with one write."""
        label, now = model._meta.label, time.monotonic()
        ends: Counter[tuple[str, Ending, str | None]] = Counter()
        times: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for attempt, outcome in pairs:
            ends[outcome.source, outcome.ending, outcome.target if outcome.moved else None] += 1
            if attempt.started is not None:
                times[outcome.source].append((attempt.claimed, attempt.started))
        with self.lock:
            for (source, ending, target), number in ends.items():
                self.attempts[label, source, ending.value] += number
                if target is not None:
                    self.transitions[label, source, target] += number
            for source, some in times.items():
                ran, waited = self.attempt_seconds[label, source], self.queue_seconds[label, source]
                ran.observe_all(now - started for _, started in some)
                waited.observe_all(max(0.0, started - claimed) for claimed, started in some)
            self.batch_sizes[label,].observe(sum(ends.values()))
