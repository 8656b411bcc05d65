"""Counting attempts as they are settled, for the pace that a runner tells the registry."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.pace import BOUNDS
from django_fsmworker.runner.in_flight.attempts import Attempt
from django_fsmworker.store import Outcome

# Seconds of a part, and the number of parts for the rate and for the times of checks.
PART, FOR_RATE, FOR_TIMES = 10.0, 6, 30
# Of one write, about so many attempts at the least are timed, evenly spread: the cost of looking at
# each of a thousand would show in the drain.
TIMED = 64

NAMES = [f"{bound:g}" for bound in BOUNDS] + ["inf"]


@dataclass(slots=True)
class Part:
    """The attempts at rows of one state that ended within ten seconds."""

    number: int
    attempts: int = 0
    times: list[int] = field(default_factory=lambda: [0] * len(NAMES))


class Paces:
    """Attempts of the last minute, and the times of checks of the last five; by model and state.

    Any thread may count, and ask.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lanes: dict[tuple[Any, str], deque[Part]] = {}
        self._began = time.monotonic()

    def settled(self, model: Any, pairs: Sequence[tuple[Attempt, Outcome]]) -> None:
        """Count the attempts settled with one write; of many, the times of some stand for all."""
        number, stride = int(time.monotonic() / PART), max(1, len(pairs) // TIMED)
        with self._lock:
            for source, attempts in Counter([each.source for _, each in pairs]).items():
                self._part(model, source, number).attempts += attempts
            for attempt, outcome in pairs[::stride]:
                if attempt.started is not None and attempt.ended is not None:
                    seconds = attempt.ended - attempt.started
                    times = self._part(model, outcome.source, number).times
                    times[bisect_left(BOUNDS, seconds)] += stride

    def report(self) -> dict[Any, list[dict[str, Any]]]:
        """By model, what ``models.pace.Pace.add()`` takes; of states without attempts nothing."""
        now, found = time.monotonic(), dict[Any, list[dict[str, Any]]]()
        latest = int(now / PART)
        first = latest - FOR_RATE + 1
        minutes = max(1.0, now - max(self._began, first * PART)) / 60
        with self._lock:
            for lane, parts in list(self._lanes.items()):
                while parts and parts[0].number <= latest - FOR_TIMES:
                    parts.popleft()
                if not parts:
                    del self._lanes[lane]
                    continue
                model, state = lane
                attempts = sum(part.attempts for part in parts if part.number >= first)
                times = [sum(some) for some in zip(*(part.times for part in parts), strict=True)]
                found.setdefault(model, []).append(
                    {
                        "model": declaring_model(model)._meta.label,
                        "state": state,
                        "per_minute": round(attempts / minutes, 2),
                        "times": {name: n for name, n in zip(NAMES, times, strict=True) if n},
                    }
                )
        return found

    def _part(self, model: Any, state: str, number: int) -> Part:
        parts = self._lanes.setdefault((model, state), deque(maxlen=FOR_TIMES))
        if not parts or parts[-1].number != number:
            parts.append(Part(number))
        return parts[-1]
