"""A set of a graph's states that knows their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django_fsmworker.graph.states import State


class StateSet(frozenset[State]):
    """States, iterated in the order in which their graph declares them.

    The order of a plain set of names is another one in each process: a list made of it, in a
    constraint or in choices, would be a change to every other ``makemigrations``.
    """

    _order: tuple[State, ...]

    def __new__(cls, states: Iterable[State] = ()) -> StateSet:
        order = tuple(states)
        found = super().__new__(cls, order)
        found._order = order
        return found

    def __iter__(self) -> Iterator[State]:
        return iter(self._order)
