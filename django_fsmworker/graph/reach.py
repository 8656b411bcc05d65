"""Where rows can get to in a graph."""

from __future__ import annotations

from django_fsmworker.graph.states import State


def after(state: State) -> set[State]:
    """The states that a row in this one can get to by one transition or more, of any kind."""
    found: set[State] = set()
    waiting = list(state.children)
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(current.children)
    return found
