"""The states of a graph."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.backoff import Backoff
from django_fsmworker.graph.declarations import Declaration
from django_fsmworker.graph.durations import Duration, as_seconds
from django_fsmworker.graph.places import Place
from django_fsmworker.graph.transitions import Kind, Transition

if TYPE_CHECKING:
    from django_fsmworker.graph.stategraph import StateGraph

logger = logging.getLogger(__name__)


class State:
    """One state of a ``StateGraph``, declared as a class attribute there.

    It is no ``str``, but compares and hashes as its name, and ``str(state)`` is the name. Two
    states are equal only if they are the same object; copies and pickles give the member back.

    Durations are seconds or a ``timedelta`` and are kept as seconds:

    * ``start_after``: from entering the state to the first check,
    * ``retry_after``: from a check that returned nothing to the next one,
    * ``delete_after``: from entering the state to the row's deletion; terminal and manual only,
    * ``deadline``: how long one attempt may take; without it the runner's own.

    ``externally_progressed``, or ``manual``: only code or an event progresses the row.
    ``transition_function``: the name of the check, ``check_<name>`` unless given.
    ``force_initial``: new rows start here although other states lead here.
    ``max_attempts``: failures in a row until ``fails_to``. ``backoff``: failures to seconds.
    ``atomic``: check and transition are one database transaction: both happen once, or neither.
    ``batch``: the check gets a list of at most so many rows at a time instead of one row.
    Wrong values raise ``GraphError`` when the graph's class is created.
    """

    def __init__(
        self,
        transition_function: str | None = None,
        externally_progressed: bool = False,
        start_after: Duration = 0,
        retry_after: Duration = 60,
        delete_after: Duration | None = None,
        force_initial: bool = False,
        *,
        manual: bool | None = None,
        label: Any = None,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        deadline: Duration | None = None,
        atomic: bool = False,
        batch: int | None = None,
        # Later options (max_running) join here, keyword-only.
    ) -> None:
        self.declared = declared = Declaration()
        self.place: Place | None = None
        self.declared_function = transition_function
        self.declared_label = label
        self.declared_manual = bool(externally_progressed if manual is None else manual)
        self.start_after = declared.seconds(start_after, "start_after")
        self.retry_after = declared.seconds(retry_after, "retry_after")
        self.delete_after = self._optional(delete_after, "delete_after")
        self.deadline = self._optional(deadline, "deadline", above_zero=True)
        self.force_initial = force_initial
        self.max_attempts = max_attempts
        self.backoff = backoff
        self.atomic = bool(atomic)
        self.batch = batch
        if externally_progressed and manual is False:
            declared.faults.append(
                "externally_progressed=True and manual=False contradict each other; give only one."
            )

    def _optional(self, value: object, name: str, *, above_zero: bool = False) -> float | None:
        if value is None:
            return None
        return self.declared.seconds(value, name, above_zero=above_zero)

    # Declaring edges: later kinds (events) join here.

    def transitions_to(self, *others: State) -> None:
        """Allow the check, and code, to move a row from here to each of the others."""
        for other in others:
            self._lead_to(other, "check", "transitions_to")

    def timeout_to(self, other: State, seconds: Duration) -> None:
        """Move rows there that have been here for so long; once per state."""
        if self.place is not None:
            after = as_seconds(seconds, f"{self.place.path}: timeout_to seconds", above_zero=True)
        else:
            after = self.declared.seconds(seconds, "timeout_to seconds", above_zero=True)
        self._lead_to(other, "timeout", "timeout_to", after)

    def fails_to(self, other: State) -> None:
        """Move rows there that failed here ``max_attempts`` times in a row; once per state."""
        self._lead_to(other, "failure", "fails_to")

    def _lead_to(self, other: object, kind: Kind, verb: str, after: float | None = None) -> None:
        if not isinstance(other, State):
            self._refuse(f"{verb} needs a State of the graph, not {other!r}; pass the State.")
            return
        # A finished graph stays as it is: a subclass's body notes the edge at the state it adds.
        holder = self if self.place is None else other
        if holder.place is not None:
            self._refuse(
                f"{verb} {other!r} comes too late, because both states belong to finished graphs;"
                " redeclare one of them in the body of a subclass and declare the transition there."
            )
        holder.declared.add(Transition(self, other, kind, after))

    def _refuse(self, fault: str) -> None:
        if self.place is not None:
            raise GraphError(f"{self.place.path}: {fault}")
        self.declared.faults.append(fault)

    # Its place in the graph.

    @property
    def name(self) -> str:
        """The name it has in its graph; empty while the graph's class body still runs."""
        return self.place.name if self.place else ""

    @property
    def graph(self) -> type[StateGraph]:
        """The graph it belongs to; ``GraphError`` while there is none."""
        if self.place is None:
            raise GraphError("This State belongs to no graph; assign it in a StateGraph's body.")
        return self.place.graph

    @property
    def label(self) -> Any:
        """What people read, possibly a lazy translation; its name unless given."""
        return self.name if self.declared_label is None else self.declared_label

    @property
    def transition_function(self) -> str:
        """The name of its check."""
        return self.declared_function or f"check_{self.name}"

    @property
    def handler(self) -> Callable[[Any], Any]:
        """Its check, bound to the graph; ``AttributeError`` where the graph has none."""
        handler: Callable[[Any], Any] = getattr(self.graph, self.transition_function)
        return handler

    @property
    def is_async(self) -> bool:
        """Whether its check is ``async def`` and runs on an event loop."""
        return self.place is not None and self.place.is_async

    @property
    def transitions(self) -> list[Transition]:
        """The ways out, in the order of their declaration, a parent graph's first."""
        return list(self.place.transitions) if self.place else []

    @property
    def parents(self) -> frozenset[State]:
        """The states that lead here in any way."""
        return self.place.parents if self.place else frozenset()

    @property
    def children(self) -> frozenset[State]:
        """The states this one leads to: by a check, a timeout or a failure."""
        return self.place.children if self.place else frozenset()

    @property
    def timeout_state(self) -> State | None:
        """Where ``timeout_to`` leads."""
        edge = self.place and self.place.timeout
        return edge.target if edge else None

    @property
    def timeout_after(self) -> float | None:
        """Seconds in this state until ``timeout_state``."""
        edge = self.place and self.place.timeout
        return edge.after if edge else None

    @property
    def failure_state(self) -> State | None:
        """Where ``fails_to`` leads."""
        edge = self.place and self.place.failure
        return edge.target if edge else None

    # What it is.

    @property
    def initial(self) -> bool:
        """Whether new rows start here: by ``force_initial``, or since no other state leads here."""
        return self.force_initial or not self.parents - {self}

    @property
    def terminal(self) -> bool:
        """Whether there is no way out."""
        return self.place is not None and not self.place.children

    @property
    def externally_progressed(self) -> bool:
        """Whether the runner runs no check here: declared so, or terminal."""
        return self.declared_manual or self.terminal

    @property
    def manual(self) -> bool:
        """The same as ``externally_progressed``."""
        return self.externally_progressed

    @property
    def automatic(self) -> bool:
        """Whether the runner progresses the row: neither terminal nor manual."""
        return not (self.declared_manual or self.terminal)

    def retry_delay(self, failures: int) -> float:
        """Seconds until the next try after that many failures in a row.

        It never raises, since it is called while a failure is being recorded: where the backoff
        does not give a duration, that is logged, and ``retry_after`` counts.
        """
        if self.backoff is None:
            return self.retry_after
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

    # As a value.

    def twin(self) -> State:
        """A new state with the same options, without place or edges; for a subclass's graph."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.place = None
        twin.declared = Declaration()
        return twin

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<State {self.place.path}>" if self.place else "<State without a graph>"

    def __format__(self, spec: str) -> str:
        return format(self.name, spec)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, State):
            return self is other
        if isinstance(other, str):
            return self.place is not None and self.place.name == other
        return NotImplemented

    def __hash__(self) -> int:
        if self.place is None:
            # Its hash would change with its name, and the set or dict would lose it.
            raise TypeError("A State can be hashed only after its graph's class is complete.")
        return hash(self.place.name)

    def __copy__(self) -> State:
        return self

    def __deepcopy__(self, memo: object) -> State:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.graph, self.name)
