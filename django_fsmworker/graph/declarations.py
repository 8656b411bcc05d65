"""What a class body says about a state before the graph around it exists.

In a class body a state does not know its name yet, so no sentence could name it. Faults are noted
here and reported when the class is created, beside everything else that validation finds.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.durations import as_seconds
from django_fsmworker.graph.transitions import Transition

_serial = itertools.count()


@dataclass(frozen=True)
class DeclaredEdge:
    """A transition as written down; ``serial`` orders it among those noted at other states."""

    serial: int
    transition: Transition


@dataclass
class Declaration:
    """The edges and the faults noted at one state."""

    edges: list[DeclaredEdge] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, transition: Transition) -> None:
        """Note a transition; its states are resolved when the graph is built."""
        self.edges.append(DeclaredEdge(next(_serial), transition))

    def seconds(self, value: object, name: str, *, above_zero: bool = False) -> float:
        """The duration in seconds; a wrong one is noted as a fault and counts as 0 until then."""
        try:
            return as_seconds(value, name, above_zero=above_zero)
        except GraphError as error:
            self.faults.append(str(error))
            return 0.0
