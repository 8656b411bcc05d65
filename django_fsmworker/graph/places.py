"""Where a state sits in its graph: known once the graph's class is complete."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from django_fsmworker.graph.kinds import is_coroutine_function

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

    @cached_property
    def timeout(self) -> Transition | None:
        """The way out by ``timeout_to``, if there is one."""
        return self._first("timeout")

    @cached_property
    def failure(self) -> Transition | None:
        """The way out by ``fails_to``, if there is one."""
        return self._first("failure")

    @cached_property
    def is_async(self) -> bool:
        """Whether the state's check is ``async def``; looked up once, since runners ask per row."""
        state = self.graph.states[self.name]
        check = inspect.getattr_static(self.graph, state.transition_function, None)
        return state.automatic and is_coroutine_function(check)

    def _first(self, kind: Kind) -> Transition | None:
        return next((edge for edge in self.transitions if edge.kind == kind), None)
