"""The states of a graph."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.backoff import Backoff
from django_fsmworker.graph.comparing import ComparesAsName
from django_fsmworker.graph.conditions import not_a_condition
from django_fsmworker.graph.declarations import Declaration
from django_fsmworker.graph.durations import Duration, as_seconds
from django_fsmworker.graph.places import Place
from django_fsmworker.graph.transitions import Kind, Transition

if TYPE_CHECKING:
    from django_fsmworker.graph.stategraph import StateGraph

logger = logging.getLogger(__name__)


class State(ComparesAsName):
    """One state of a ``StateGraph``, declared as a class attribute there.

    It is no ``str``, but compares and hashes as its name, and ``str(state)`` is the name. Two
    states are equal only if they are the same object; copies and pickles give the member back.

    Durations are seconds or a ``timedelta`` and are kept as seconds:

    * ``start_after``: from entering the state to the first check, or until guards count,
    * ``retry_after``: from a check that returned nothing to the next one, or between two sweeps,
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

    def transitions_to(self, *others: State, when: Any = None) -> None:
        """Allow the check, and code, to move a row from here to each of the others.

        With ``when``, a condition of the database (``Q``, ``Exists``, a lookup), it is a guard: the
        runner moves the rows of which that is true, and the check may not ask for it.
        """
        kind: Kind = "check" if when is None else "guard"
        if when is not None and (fault := not_a_condition(when)):
            self._refuse(fault)
        for other in others:
            self._lead_to(other, kind, "transitions_to", when=when)

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

    def _lead_to(
        self,
        other: object,
        kind: Kind,
        verb: str,
        after: float | None = None,
        when: Any = None,
    ) -> None:
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
        holder.declared.add(Transition(self, other, kind, after, when))

    def _refuse(self, fault: str) -> None:
        if self.place is not None:
            raise GraphError(f"{self.place.path}: {fault}")
        self.declared.faults.append(fault)

    # Its place in the graph.

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
        return self.place.function if self.place else self.declared_function or ""

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
    def guards(self) -> tuple[Transition, ...]:
        """Its transitions with a ``when``, in the order in which they are asked."""
        return self.place.guards if self.place else ()

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
        """The states this one leads to: by a check, a guard, a timeout or a failure."""
        return self.place.children if self.place else frozenset()

    @property
    def unguarded(self) -> frozenset[State]:
        """Those of them to which a way without a guard leads: the only ones a check may return."""
        return self.place.unguarded if self.place else frozenset()

    def answered(self, result: State | str) -> State | None:
        """The one of those that a check has returned, or named; None if it is none of them."""
        name = result if isinstance(result, str) else result.name
        found = self.place.answers.get(name) if self.place else None
        if found == result:
            return found
        target = self.graph.get(result)  # a parent graph's state, or nothing that may be returned
        return target if target in self.unguarded else None

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

    @property
    def swept(self) -> bool:
        """Whether it is automatic by guards alone, without a check: sweeps find rows to move."""
        return self.place is not None and self.place.swept

    @property
    def checked(self) -> bool:
        """Whether the runner runs a check here: automatic and not swept."""
        return self.place is not None and self.place.checked

    @property
    def first_due(self) -> float | None:
        """Seconds from entering the state until the runner has something to do; None for never.

        A timeout has its own due time, so it fires in manual states too, and does not wait for the
        next try. Sweeps find their rows without one.
        """
        return self.place.first_due if self.place else None

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

    def twin(self) -> State:
        """A new state with the same options, without place or edges; for a subclass's graph."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.place, twin.name = None, ""
        twin.declared = Declaration()
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.graph, self.name)
