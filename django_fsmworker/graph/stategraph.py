"""The class that a user's graph derives from."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from django_fsmworker.exceptions import GraphError, UnknownState
from django_fsmworker.graph.building import build
from django_fsmworker.graph.durations import Duration
from django_fsmworker.graph.events import ORDERS, UNHANDLED, EventOrder, Unhandled
from django_fsmworker.graph.state_set import StateSet
from django_fsmworker.graph.states import Lifetime, State
from django_fsmworker.graph.validation import validate


class StateGraph:
    """The life of a row: subclass it, declare ``State`` attributes, their edges and their checks.

    A subclass of a graph gets copies of its parent's states, with their edges; the parent stays as
    it is. ``Parent.new.transitions_to(extra)`` in the subclass's body adds an edge to the copy, and
    declaring ``new`` again replaces its options and keeps its edges.

    Two options about durable events are given beside the base class, and inherited:
    ``class OrderStates(StateGraph, unhandled="discard", order="none")``.

    Args:
        unhandled: What happens to an event that the row's state does not take: ``"retry"``, the
            default, keeps it until it expires, since the row may take it later; ``"discard"`` and
            ``"fail"`` end it at once.
        order: ``"row"``, the default, delivers the events of a row one after the other; with
            ``"none"`` those that come later do not wait for one that has to be tried again.

    Raises:
        GraphError: The graph breaks a rule; raised when its class is created. The message names the
            graph, the state and the remedy.
    """

    states: ClassVar[dict[str, State]] = {}
    """All states by name, in the order of their declaration, a parent graph's first."""
    choices: ClassVar[list[tuple[str, Any]]] = []
    """Name and label of every state, as Django's ``choices`` want them."""
    initial_state: ClassVar[State]
    """The state in which new rows start."""
    terminal_states: ClassVar[frozenset[State]] = frozenset()
    """The states without a way out."""
    manual_states: ClassVar[frozenset[State]] = frozenset()
    """The states that only code or an event progresses; terminal states are not among them."""
    automatic_states: ClassVar[frozenset[State]] = frozenset()
    """The states that the runner progresses: every state is terminal, manual or automatic."""
    swept_states: ClassVar[frozenset[State]] = frozenset()
    """The automatic states without a check: their guards alone progress a row."""
    deletion_states: ClassVar[frozenset[State]] = frozenset()
    """The states with a ``delete_after``."""
    timeout_states: ClassVar[frozenset[State]] = frozenset()
    """The states with a ``timeout_to``."""
    declared_lifetime: ClassVar[Lifetime | None] = None
    """What ``lifetime()`` declares for this graph or for its parent; None without one."""

    triggers: ClassVar[frozenset[str]] = frozenset()
    """The names of all events that any state takes."""
    unhandled: ClassVar[Unhandled] = "retry"
    """What happens to a durable event that the row's state does not take."""
    event_order: ClassVar[EventOrder] = "row"
    """Whether the durable events of a row wait for each other: the class option ``order``."""

    def __init_subclass__(
        cls, *, unhandled: Unhandled | None = None, order: EventOrder | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        build(cls, StateGraph)
        if unhandled is not None:
            cls.unhandled = _one_of(UNHANDLED, unhandled, f"{cls.__name__}: unhandled")
        if order is not None:
            cls.event_order = _one_of(ORDERS, order, f"{cls.__name__}: order")
        validate(cls)
        _group_states(cls)

    @staticmethod
    def lifetime(target: State, after: Duration) -> None:
        """Declare how long rows live: ``StateGraph.lifetime(gone, 3600)`` in the body of a graph.

        A row that has not come to its end ``after`` its creation moves to ``target``, whatever
        states it went through and however often it was tried or came back to one. No check runs on
        it any more, and no guard is asked. The model needs a column for it:
        ``state_life_ends = StateLifeEndsField()``.

        The lifetime does not count in terminal states, in ``target``, and in those to which a row
        can get from there. It is declared once; a subclass inherits it, or declares its own for a
        state of its own.

        Args:
            target: The state that they move to.
            after: Time from the creation of the row, above zero, in seconds or as a ``timedelta``.

        Raises:
            GraphError: A value is wrong, or the state belongs to a finished graph.
        """
        given: object = target
        if not isinstance(given, State):
            raise GraphError(
                f"StateGraph.lifetime() needs a State of the graph, not {given!r}; pass the State."
            )
        given.declare_lifetime(after)

    @classmethod
    def get(cls, state: State | str) -> State:
        """The state of this graph that is meant by a name or by a state.

        Args:
            state: Name of a state, a state of this graph, or one of a graph that this one derives
                from, which stands for its copy here.

        Raises:
            UnknownState: The graph has no such state.
        """
        given: object = state  # Whatever a check returned may come here.
        if isinstance(given, State):
            if given.node is not None and issubclass(cls, given.node.graph):
                return cls.states[given.name]
        elif isinstance(given, str) and given in cls.states:
            return cls.states[given]
        raise UnknownState(
            f"{given!r} is not a state of {cls.__name__}; its states are: {', '.join(cls.states)}."
        )

    @classmethod
    def unhandled_of(cls, trigger: str) -> Unhandled:
        """What happens to a durable event of this name that the row's state does not take.

        Args:
            trigger: The name of the event.
        """
        for state in cls.states.values():
            for edge in state.events.get(trigger, ()):
                if edge.unhandled is not None:
                    return edge.unhandled
        return cls.unhandled


Option = TypeVar("Option", Unhandled, EventOrder)


def _one_of(options: tuple[str, ...], given: Option, name: str) -> Option:
    if given not in options:
        raise GraphError(f"{name}={given!r} is none of {', '.join(map(repr, options))}; give one.")
    return given


def _group_states(graph: type[StateGraph]) -> None:
    states = graph.states.values()
    graph.choices = [(state.name, state.label) for state in states]
    graph.initial_state = next(state for state in states if state.initial)
    graph.terminal_states = StateSet(state for state in states if state.terminal)
    graph.automatic_states = StateSet(state for state in states if state.automatic)
    moved_on = graph.terminal_states | graph.automatic_states
    graph.manual_states = StateSet(state for state in states if state not in moved_on)
    graph.swept_states = StateSet(state for state in states if state.swept)
    graph.deletion_states = StateSet(state for state in states if state.delete_after is not None)
    graph.triggers = frozenset(trigger for state in states for trigger in state.events)
    graph.timeout_states = StateSet(state for state in states if state.timeout_state)
