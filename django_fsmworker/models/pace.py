"""The pace of a state: how many attempts end in a minute, and how long their checks take.

Each runner counts those of the last minutes and tells them with its signs of life; whoever asks
adds up what several tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GROWTH = 1.5
# In seconds, from a millisecond to an hour and a half; what took longer counts under infinity.
BOUNDS = tuple(float(f"{0.001 * GROWTH**number:.3g}") for number in range(39))


@dataclass(slots=True)
class Pace:
    """Attempts per minute, and numbers of checks by the bound that their time did not exceed.

    Times are known up to half of themselves, since bounds are that far apart.
    """

    per_minute: float = 0.0
    times: Counter[float] = field(default_factory=Counter)

    def add(self, told: Mapping[str, Any]) -> None:
        """Add what one runner tells."""
        self.per_minute += told["per_minute"]
        for bound, number in told["times"].items():
            self.times[float(bound)] += number

    def merge(self, other: Pace) -> None:
        """Add those of another database."""
        self.per_minute += other.per_minute
        self.times.update(other.times)

    def seconds(self, part: float) -> float | None:
        """The time within which this part of the checks ended; None if none is known to have."""
        left = part * self.times.total()
        for bound, number in sorted(self.times.items()):
            if number >= left:
                if bound == float("inf"):
                    return BOUNDS[-1]
                lowest = 0.0 if bound == BOUNDS[0] else bound / GROWTH
                return lowest + (bound - lowest) * left / number
            left -= number
        return None
