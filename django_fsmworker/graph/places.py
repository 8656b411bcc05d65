"""Where a state sits in its graph: known once the graph's class is complete."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from django_fsmworker.graph.durations import earliest
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
    def guards(self) -> tuple[Transition, ...]:
        """The ways out that have a condition, in the order in which they are asked."""
        return tuple(edge for edge in self.transitions if edge.kind == "guard")

    @cached_property
    def unguarded(self) -> frozenset[State]:
        """Where a way without a condition leads."""
        return frozenset(edge.target for edge in self.transitions if edge.kind != "guard")

    @cached_property
    def answers(self) -> dict[str, State]:
        """The same by name, to look up what a check returned."""
        return {state.name: state for state in self.unguarded}

    @cached_property
    def swept(self) -> bool:
        """Whether the way on is by guards alone: nobody wrote a check, and none is needed."""
        state = self.graph.states[self.name]
        without_check = state.declared_function is None and self.check is None
        needs_check = any(edge.kind == "check" for edge in self.transitions)
        return state.automatic and bool(self.guards) and without_check and not needs_check

    @cached_property
    def checked(self) -> bool:
        """Whether the runner runs the state's check; looked up once, since runners ask per row."""
        return self.graph.states[self.name].automatic and not self.swept

    @cached_property
    def first_due(self) -> float | None:
        """The state's ``first_due``; looked up once, since every row that enters it asks."""
        state = self.graph.states[self.name]
        return earliest(state.start_after if self.checked else None, state.timeout_after)

    @cached_property
    def is_async(self) -> bool:
        """Whether that check is ``async def``; looked up once, too."""
        return self.graph.states[self.name].automatic and is_coroutine_function(self.check)

    @cached_property
    def check(self) -> object:
        """The state's check as the class has it, not bound; None without one."""
        return inspect.getattr_static(self.graph, self.function, None)

    @cached_property
    def function(self) -> str:
        """The name of that check."""
        return self.graph.states[self.name].declared_function or f"check_{self.name}"

    def _first(self, kind: Kind) -> Transition | None:
        return next((edge for edge in self.transitions if edge.kind == kind), None)
