"""States and the transitions between them, as they are in a complete graph.

A ``State`` is what a user declares, a ``Transition`` or an ``EventTransition`` is an edge, and a
``Node`` is a state once its graph is complete. Each of them names the others, so they share a
module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, Self

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.callables import is_coroutine_function
from django_fsmworker.graph.declaring import EdgeKind, StateDeclaration
from django_fsmworker.graph.durations import as_seconds, earliest
from django_fsmworker.graph.events import Action, Condition, EventOrder, Form, Permission, Unhandled
from django_fsmworker.logs import logger_for

logger = logger_for(__name__)


class State(StateDeclaration):
    """One state of a ``StateGraph``, declared as a class attribute in the body of that class.

    A state is no ``str``, but compares and hashes as its name, and ``str(state)`` is the name. Two
    states are equal only if they are the same object; copies and pickles give the member back.

    Every duration is a number of seconds or a ``timedelta``, from zero to 100 years, and is kept
    as seconds in a ``float``.

    Args:
        transition_function: Name of the check; ``check_<name>`` by default.
        externally_progressed: Whether only code or an event progresses the row, and no check runs
            in this state; False by default.
        start_after: Time from entering the state to the first check, or until guards count; 0 by
            default.
        retry_after: Time from a check that returned nothing to the next one, exactly; without a
            check, from one sweep to the next, at most. 60 seconds by default.
        delete_after: Time from entering the state to the deletion of the row, for terminal and
            manual states; None, the default, deletes nothing.
        force_initial: Whether new rows start here although other states lead here; False by
            default.
        manual: Another name for ``externally_progressed``; None, the default, leaves it to that.
        label: What people read, possibly a lazy translation; the name by default.
        max_attempts: Failures in a row until the row goes where ``fails_to`` leads, or is parked
            without one: 1 to 32767. None, the default, retries for ever.
        backoff: Callable from the number of failures in a row to the time until the next attempt,
            such as ``exponential(base=5)``; ``retry_after`` counts by default.
        deadline: Time that one attempt may take, above zero; the runner's own by default.
        atomic: Whether a check and its transition are one database transaction, so that both
            happen once, or neither; False by default.
        batch: Most rows that the check gets in one call, as a list: 1 to 10000. None, the default,
            gives it one row, and no list.
        select_related: Relations that the check uses, as ``QuerySet.select_related()`` takes them:
            a claim loads each in one query for all its rows; none by default.
        limit: Most rows whose checks run at once in the whole fleet; no limit by default.
        limit_by: Column of the row's own table: ``limit`` holds for each of its values.
        rate: Attempts that may begin in a time in the whole fleet: ``"100/m"`` (s, m, h), or a
            ``Rate``; no limit by default.
        rate_by: Column of the row's own table: ``rate`` holds for each of its values.
        burst: Attempts that may begin at once after a quiet time; by default those of one second.
        fair_by: Column of the row's own table, whose values take turns; by default, age decides.
        weight: Callable from a value of that column to its weight; all weigh 1 by default.
        priority: A number from 0 to 9 for the state, or the column that has each row's: what is
            higher goes before what is lower, and age decides among equals. 0 by default.
        share: The part of a process's slots, above 0 and at most 1, that the state's checks may
            take at once; by default all but one while the process runs other states, too.
        breaker: A ``Breaker`` that pauses the state while its checks mostly fail; none by default.

    Raises:
        GraphError: A value is wrong; raised when the class of the graph is created, because the
            message gives the name that the state has there.
    """

    # Both are set on every instance: a default of the class would make looking them up slower.
    name: str
    """Name of the state in its graph; empty while the class body of the graph still runs."""

    node: Node | None
    """What follows from the complete graph; None while its class body still runs."""

    # What follows from the graph.

    @property
    def graph(self) -> type[Graph]:
        """The ``StateGraph`` that the state belongs to; ``GraphError`` while there is none."""
        if self.node is None:
            raise GraphError("This State belongs to no graph; assign it in a StateGraph's body.")
        return self.node.graph

    @property
    def label(self) -> Any:
        """What people read, possibly a lazy translation; the state's name unless declared."""
        return self.name if self.declared_label is None else self.declared_label

    @property
    def transition_function(self) -> str:
        """Name of the state's check."""
        return self.node.function if self.node else self.declared_function or ""

    @property
    def handler(self) -> Callable[[Any], Any]:
        """The state's check, bound to the graph; ``AttributeError`` where the graph has none."""
        node = self.node
        handler: Callable[[Any], Any] = (
            getattr(self.graph, self.transition_function)
            if node is None
            else getattr(node.graph, node.function)
        )
        return handler

    @property
    def is_async(self) -> bool:
        """Whether the state's check is ``async def`` and runs on an event loop."""
        return self.node is not None and self.node.is_async

    @property
    def guards(self) -> tuple[Transition, ...]:
        """The transitions with a ``when``, in the order in which they are asked."""
        return self.node.guards if self.node else ()

    @property
    def transitions(self) -> list[Transition]:
        """The ways out, in the order of their declaration, a parent graph's first."""
        return list(self.node.transitions) if self.node else []

    @property
    def events(self) -> Mapping[str, tuple[EventTransition, ...]]:
        """What events do to a row in this state: their transitions by trigger, in order."""
        return self.node.events if self.node else MappingProxyType({})

    @property
    def parents(self) -> frozenset[State]:
        """The states that lead to this one in any way."""
        return self.node.parents if self.node else frozenset()

    @property
    def children(self) -> frozenset[State]:
        """The states to which a check, a guard, a timeout, a failure, an event or the end of the
        lifetime leads.
        """
        return self.node.children if self.node else frozenset()

    @property
    def unguarded(self) -> frozenset[State]:
        """The children to which a way without a guard leads: the only ones a check may return."""
        return self.node.unguarded if self.node else frozenset()

    def answered(self, result: State | str) -> State | None:
        """The state that a check means by what it returned, a state or the name of one.

        None if that is not among the ``unguarded`` ones; ``UnknownState`` if it is no state of the
        graph at all.
        """
        name = result if isinstance(result, str) else result.name
        found = self.node.answers.get(name) if self.node else None
        if found is result or found == result:
            return found
        target = self.graph.get(result)  # a parent graph's state, or nothing that may be returned
        return target if target in self.unguarded else None

    @property
    def timeout_state(self) -> State | None:
        """The state that ``timeout_to`` leads to."""
        edge = self.node and self.node.timeout
        return edge.target if edge else None

    @property
    def timeout_after(self) -> float | None:
        """Seconds from entering the state until rows move to ``timeout_state``."""
        edge = self.node and self.node.timeout
        return edge.after if edge else None

    @property
    def lifetime_state(self) -> State | None:
        """The state that the graph's ``lifetime()`` leads to; None where a life does not end.

        It ends in no terminal state, nor in the one that it leads to, nor in those that come after.
        """
        return self.node.lifetime_state if self.node else None

    @property
    def failure_state(self) -> State | None:
        """The state that ``fails_to`` leads to."""
        edge = self.node and self.node.failure
        return edge.target if edge else None

    @property
    def initial(self) -> bool:
        """Whether new rows start here: by ``force_initial``, or since no other state leads here."""
        return self.force_initial or not self.parents - {self}

    @property
    def terminal(self) -> bool:
        """Whether there is no way out."""
        return self.node is not None and not self.node.children

    @property
    def externally_progressed(self) -> bool:
        """Whether the runner runs no check here: it is declared so, or the state is terminal."""
        return self.declared_manual or self.terminal

    manual = externally_progressed
    """Another name for ``externally_progressed``: true for terminal states, too."""

    @property
    def automatic(self) -> bool:
        """Whether the runner progresses the row: the state is neither terminal nor manual."""
        return not (self.declared_manual or self.terminal)

    @property
    def swept(self) -> bool:
        """Whether the state is automatic by guards alone: sweeps find the rows to move."""
        return self.node is not None and self.node.swept

    @property
    def checked(self) -> bool:
        """Whether the runner runs a check here: the state is automatic and not swept."""
        return self.node is not None and self.node.checked

    @property
    def first_due(self) -> float | None:
        """Seconds from entering the state until the runner has something to do; None for never.

        A timeout has its own due time, so it fires in manual states too, and does not wait for the
        next try. Sweeps find their rows without one.
        """
        return self.node.first_due if self.node else None

    def retry_delay(self, failures: int) -> float:
        """Seconds until the next try after that many failures in a row.

        It never raises, since it is called while a failure is being recorded: where the backoff
        does not give a duration, that is logged, and ``retry_after`` counts.
        """
        if self.backoff is not None:
            try:
                return as_seconds(self.backoff(failures), "delay")
            except Exception:
                logger.exception(
                    "The backoff of %r failed for failures=%s; retry_after counts instead.",
                    self,
                    failures,
                    extra={"action": "backoff_failed", "state": self.name},
                )
        return self.retry_after

    # A state as a value.

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<State {self.node.path}>" if self.node else "<State without a graph>"

    def __format__(self, spec: str) -> str:
        return format(self.name, spec)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, State):
            return self is other
        if isinstance(other, str):
            return self.node is not None and self.name == other
        return NotImplemented

    def __hash__(self) -> int:
        if self.node is None:
            # Its hash would change with its name, and the set or dict would lose it.
            raise TypeError("A State can be hashed only after its graph's class is complete.")
        return hash(self.name)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.graph, self.name)

    def twin(self) -> State:
        """A new state with the same options and without a node or edges, for a subclass's graph."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, node=None, name="", faults=[], declared_edges=[])
        twin.declared_lifetimes = []
        return twin


@dataclass(frozen=True)
class Transition:
    """An edge of a graph: a declared way from one state to another.

    Args:
        source: The state that the transition leaves.
        target: The state that it leads to.
        kind: Who takes it: "check" when the check (or code) asks for it, "guard" when the database
            finds the condition ``when`` true of the row, "timeout" when the row has been in
            ``source`` for ``after`` seconds, "failure" after the last allowed failure.
        after: Seconds in ``source`` until a timeout; None for the other kinds.
        when: Condition of a guard; None for the other kinds.
    """

    source: State
    target: State
    kind: EdgeKind
    after: float | None = None
    when: Any = None


@dataclass(frozen=True)
class EventTransition:
    """An edge of a graph that an event takes; declared by ``State.on()``, which tells of the rest.

    Args:
        source: The state in which the row takes the event.
        target: The state that it moves to; None if it stays where it is.
        trigger: The name of the event.
        when: What must be true; None for nothing.
        action: What is done with the transition; None for nothing.
        permission: Who may send the event; None for everybody.
        form: In what people give what the event needs; None for nothing.
        label: What people read; None for the trigger.
        interrupts: Whether the event ends a check that runs on the row.
        unhandled: What happens to a durable event of this name in a state that does not take it;
            None for what the graph says.
    """

    source: State
    target: State | None
    trigger: str
    when: Condition = None
    action: Action | None = None
    permission: Permission | None = None
    form: Form | None = None
    label: Any = None
    interrupts: bool = False
    unhandled: Unhandled | None = None


@dataclass(frozen=True)
class Lifetime:
    """What ``StateGraph.lifetime()`` declares: how long the rows of a graph live at most.

    Args:
        target: The state that a row moves to whose life has lasted that long.
        after: Seconds from the row's first state on.
    """

    target: State
    after: float


@dataclass(frozen=True)
class Node:
    """A state in its complete graph: its edges, and what follows from them.

    Runners ask for most of it once a row, so whatever takes a search is found once and kept.
    """

    graph: type[Graph]
    state: State
    transitions: tuple[Transition, ...] = ()
    parents: frozenset[State] = frozenset()
    children: frozenset[State] = frozenset()
    events: dict[str, tuple[EventTransition, ...]] = field(default_factory=dict)
    lifetime_state: State | None = None

    @property
    def path(self) -> str:
        """What messages call the state: ``OrderStates.new``."""
        return f"{self.graph.__name__}.{self.state.name}"

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
        """The states to which a way without a condition leads."""
        return frozenset(edge.target for edge in self.transitions if edge.kind != "guard")

    @cached_property
    def answers(self) -> dict[str, State]:
        """The ``unguarded`` states by name, to look up what a check returned."""
        return {state.name: state for state in self.unguarded}

    @cached_property
    def swept(self) -> bool:
        """Whether the way on is by guards alone: nobody wrote a check, and none is needed."""
        without_check = self.state.declared_function is None and self.check is None
        needs_check = any(edge.kind == "check" for edge in self.transitions)
        return self.state.automatic and bool(self.guards) and without_check and not needs_check

    @cached_property
    def checked(self) -> bool:
        """Whether the runner runs the state's check."""
        return self.state.automatic and not self.swept

    @cached_property
    def first_due(self) -> float | None:
        """Seconds from entering the state until the runner has something to do; None for never."""
        return earliest(self.state.start_after if self.checked else None, self.state.timeout_after)

    @cached_property
    def is_async(self) -> bool:
        """Whether the runner runs the state's check, and that is ``async def``."""
        return self.state.automatic and is_coroutine_function(self.check)

    @cached_property
    def check(self) -> object:
        """The state's check as the class has it, not bound; None without one."""
        return inspect.getattr_static(self.graph, self.function, None)

    @cached_property
    def function(self) -> str:
        """Name of the state's check."""
        return self.state.declared_function or f"check_{self.state.name}"

    def _first(self, kind: EdgeKind) -> Transition | None:
        return next((edge for edge in self.transitions if edge.kind == kind), None)


class Graph(Protocol):
    """The class of a complete graph, as its states know it: a ``StateGraph``, documented there."""

    states: ClassVar[dict[str, State]]
    choices: ClassVar[list[tuple[str, Any]]]
    initial_state: ClassVar[State]
    terminal_states: ClassVar[frozenset[State]]
    manual_states: ClassVar[frozenset[State]]
    automatic_states: ClassVar[frozenset[State]]
    swept_states: ClassVar[frozenset[State]]
    deletion_states: ClassVar[frozenset[State]]
    timeout_states: ClassVar[frozenset[State]]
    declared_lifetime: ClassVar[Lifetime | None]
    triggers: ClassVar[frozenset[str]]
    unhandled: ClassVar[Unhandled]
    event_order: ClassVar[EventOrder]

    @classmethod
    def get(cls, state: State | str) -> State: ...
