"""The class that a graph derives from."""

from __future__ import annotations

from typing import Any, ClassVar

from django_fsmworker.exceptions import GraphError, UnknownState
from django_fsmworker.graph.edges import connect
from django_fsmworker.graph.members import own_states, refuse_foreign_states
from django_fsmworker.graph.places import Place
from django_fsmworker.graph.states import State
from django_fsmworker.graph.validation import validate


class StateGraph:
    """The life of a row: subclass it, declare ``State`` attributes, their edges and their checks.

    A subclass of a graph gets copies of its parent's states, with their edges; the parent stays as
    it is. ``Parent.new.transitions_to(extra)`` in the subclass's body adds an edge to the copy, and
    declaring ``new`` again replaces its options and keeps its edges. A graph that breaks a rule
    raises ``GraphError`` when its class is created.
    """

    states: ClassVar[dict[str, State]] = {}
    """All states by name, in the order of their declaration, a parent graph's first."""
    choices: ClassVar[list[tuple[str, Any]]] = []
    """Name and label of every state, as Django's ``choices`` want them."""
    initial_state: ClassVar[State]
    """Where new rows start."""
    terminal_states: ClassVar[frozenset[State]] = frozenset()
    """No way out."""
    manual_states: ClassVar[frozenset[State]] = frozenset()
    """Progressed by code or an event only; terminal states, in which nothing is, are not here."""
    automatic_states: ClassVar[frozenset[State]] = frozenset()
    """Progressed by the runner: every state is terminal, manual or automatic."""
    swept_states: ClassVar[frozenset[State]] = frozenset()
    """The automatic ones without a check: their guards alone progress a row."""
    deletion_states: ClassVar[frozenset[State]] = frozenset()
    """With a ``delete_after``."""
    timeout_states: ClassVar[frozenset[State]] = frozenset()
    """With a ``timeout_to``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        parent = _parent(cls)
        refuse_foreign_states(cls, StateGraph)
        own = own_states(cls, parent, _reserved())
        _place(cls, parent, own)
        connect(cls, parent, own)
        validate(cls)
        _describe(cls)

    @classmethod
    def get(cls, state: State | str) -> State:
        """This graph's state of that name; for a parent graph's state, the copy of it here.

        Raises ``UnknownState``.
        """
        given: object = state  # Whatever a check returned may come here.
        if isinstance(given, State):
            if given.place is not None and issubclass(cls, given.place.graph):
                return cls.states[given.name]
        elif isinstance(given, str) and given in cls.states:
            return cls.states[given]
        raise UnknownState(
            f"{given!r} is not a state of {cls.__name__}; its states are: {', '.join(cls.states)}."
        )


def _reserved() -> frozenset[str]:
    public = {name for name in dir(StateGraph) if not name.startswith("_")}
    return frozenset(public | {"initial_state", "mro"})


def _parent(graph: type[StateGraph]) -> type[StateGraph] | None:
    parents = [
        base for base in graph.__bases__ if issubclass(base, StateGraph) and base is not StateGraph
    ]
    if len(parents) > 1:
        names = " and ".join(parent.__name__ for parent in parents)
        raise GraphError(
            f"{graph.__name__}: it derives from the graphs {names}; derive from one of them, and"
            " put what the others share into a plain mixin without states."
        )
    return parents[0] if parents else None


def _place(graph: type[StateGraph], parent: type[StateGraph] | None, own: dict[str, State]) -> None:
    inherited = {} if parent is None else {n: s.twin() for n, s in parent.states.items()}
    graph.states = inherited | own
    if not graph.states:
        raise GraphError(
            f"{graph.__name__}: it has no states; declare at least one, such as new = State()."
        )
    for name, state in graph.states.items():
        state.place, state.name = Place(graph, name), name
        setattr(graph, name, state)


def _describe(graph: type[StateGraph]) -> None:
    states = graph.states.values()
    graph.choices = [(state.name, state.label) for state in states]
    graph.initial_state = next(state for state in states if state.initial)
    graph.terminal_states = frozenset(state for state in states if state.terminal)
    graph.automatic_states = frozenset(state for state in states if state.automatic)
    graph.manual_states = frozenset(states) - graph.terminal_states - graph.automatic_states
    graph.swept_states = frozenset(state for state in states if state.swept)
    graph.deletion_states = frozenset(state for state in states if state.delete_after is not None)
    graph.timeout_states = frozenset(state for state in states if state.timeout_state)
