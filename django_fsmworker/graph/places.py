"""Where a state sits in its graph: known once the graph's class is complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_fsmworker.graph.stategraph import StateGraph
    from django_fsmworker.graph.states import State
    from django_fsmworker.graph.transitions import Kind, Transition


@dataclass(frozen=True)
class Place:
    """The name of a state in its graph, and the edges there."""

    graph: type[StateGraph]
    name: str
    transitions: tuple[Transition, ...] = ()
    parents: frozenset[State] = frozenset()
    children: frozenset[State] = frozenset()

    @property
    def path(self) -> str:
        """What messages call the state: ``OrderStates.new``."""
        return f"{self.graph.__name__}.{self.name}"

    def first(self, kind: Kind) -> Transition | None:
        """The first transition of that kind, if there is one."""
        return next((edge for edge in self.transitions if edge.kind == kind), None)
