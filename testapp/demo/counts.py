"""How many rows are in which state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from django.db.models import Count, Q

from testapp.models import File, FileStates

ENDED = tuple(state.name for state in FileStates.states.values() if state.terminal)


@dataclass(frozen=True)
class Counts:
    """The rows of every state at one moment, `elapsed` seconds after the start."""

    states: dict[str, int]
    total: int
    elapsed: float

    @cached_property
    def ended(self) -> int:
        """The rows that have come to their end."""
        return sum(self.states[name] for name in ENDED)

    @property
    def complete(self) -> bool:
        """Whether all have."""
        return self.ended >= self.total

    @property
    def rate(self) -> float:
        """Rows that came to their end in a second, on average."""
        return self.ended / self.elapsed if self.elapsed else 0.0

    def __str__(self) -> str:
        """The states in the order of a life; those on the way only while they have rows."""
        shown = [name for name in FileStates.states if self.states[name] or name in ENDED]
        return ", ".join(f"{name} {self.states[name]:,}" for name in shown)


def count(total: int, elapsed: float) -> Counts:
    """Ask the database."""
    found = dict(File.objects.order_by().values_list("state").annotate(Count("pk")))
    return Counts({name: found.get(name, 0) for name in FileStates.states}, total, elapsed)


def nothing_moves() -> bool:
    """Whether rows are left on the way that no runner will ever look at again."""
    left = File.objects.exclude(state__in=ENDED)
    alive = Q(state_next__isnull=False) | Q(state_claim__isnull=False)
    return left.exists() and not left.filter(alive).exists()
