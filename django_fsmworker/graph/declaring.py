"""What the body of a graph's class declares about a state: its options and its ways out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, Unpack

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.backoff import Backoff
from django_fsmworker.graph.callables import knowing_other_words
from django_fsmworker.graph.durations import Duration, as_seconds
from django_fsmworker.graph.events import (
    UNHANDLED,
    Action,
    Condition,
    Form,
    Permission,
    Unhandled,
    is_condition,
)
from django_fsmworker.graph.limits import LimitOptions, Limits

EdgeKind: TypeAlias = Literal["check", "guard", "timeout", "failure"]

LONGEST_TRIGGER = 100

# Options of states in comparable systems, and those that are written here.
MEANT = {
    "attempt_immediately": "start_after=60 lets the first check wait a minute.",
    "final": "a state without a way out is terminal, without an option.",
    "handler_name": "the check is named by transition_function.",
    "initial": "force_initial=True makes it the state in which new rows start.",
    "max_retries": "max_attempts counts the first attempt, too.",
    "timeout": "deadline is for one attempt, state.timeout_to() for the time in the state.",
    "try_interval": "the time between two checks is retry_after.",
}

# Orders the edges of a class body, which are noted at several states.
_serial = itertools.count()


@dataclass(frozen=True)
class DeclaredEdge:
    """A way out as it was declared, between states whose graph may not be complete yet.

    Args:
        source: The state that it leaves.
        target: The state that it leads to; None for an event that moves nothing.
        kind: What the edge becomes: one of the kinds of a ``Transition``, or an ``"event"``.
        options: The further fields of the ``Transition`` or the ``EventTransition``.
    """

    source: StateDeclaration
    target: StateDeclaration | None
    kind: EdgeKind | Literal["event"]
    options: dict[str, Any]


class StateDeclaration:
    """The declaring side of a ``State``, which is documented there."""

    name: str
    node: Any

    @knowing_other_words("State", MEANT, LimitOptions.__annotations__)
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
        select_related: Iterable[str] = (),
        **limits: Unpack[LimitOptions],
    ) -> None:
        self.name, self.node = "", None
        self.faults: list[str] = []
        self.declared_edges: list[tuple[int, DeclaredEdge]] = []
        self.declared_lifetimes: list[float] = []
        self.declared_function = transition_function
        self.declared_label = label
        self.declared_manual = bool(externally_progressed if manual is None else manual)
        self.start_after = self._seconds(start_after, "start_after")
        self.retry_after = self._seconds(retry_after, "retry_after")
        self.delete_after = self.deadline = None
        if delete_after is not None:
            self.delete_after = self._seconds(delete_after, "delete_after")
        if deadline is not None:
            self.deadline = self._seconds(deadline, "deadline", above_zero=True)
        self.force_initial = force_initial
        self.max_attempts = max_attempts
        self.backoff = backoff
        self.atomic = bool(atomic)
        self.batch = batch
        self.select_related = self._relations(select_related)
        self.limits = Limits.declared(limits, self._refuse)
        if externally_progressed and manual is False:
            self._refuse(
                "externally_progressed=True and manual=False contradict each other; give only one."
            )

    def _relations(self, given: Any) -> tuple[str, ...]:
        if isinstance(given, str):
            self._refuse(f"select_related={given!r} is a str; give a list, such as [{given!r}].")
            return ()
        names = tuple(given) if isinstance(given, Iterable) else (given,)
        if all(isinstance(name, str) for name in names):
            return names
        self._refuse(
            f"select_related={given!r} is no list of names of foreign keys; give one, such as "
            f"['buyer']."
        )
        return ()

    # Declaring edges.

    def transitions_to(self, *others: Self, when: Any = None) -> None:
        """Allow the check, and code, to move a row from this state to each of the others.

        Args:
            others: The states that a row may move to.
            when: Condition of the database (``Q``, ``Exists``, a lookup), which makes the
                transition a guard: the runner moves the rows of which the condition is true, and
                the check may not ask for it. Without a condition by default.

        Raises:
            GraphError: A value is wrong, or both states belong to finished graphs.
        """
        kind: EdgeKind = "check" if when is None else "guard"
        if when is not None and (fault := _not_a_condition(when)):
            self._refuse(fault)
        for other in others:
            self._lead_to(other, kind, "transitions_to", {} if when is None else {"when": when})

    def timeout_to(self, other: Self, seconds: Duration) -> None:
        """Move the rows that have been in this state for so long; declared once per state.

        Args:
            other: The state that they move to.
            seconds: Time from entering this state, above zero, in seconds or as a ``timedelta``.

        Raises:
            GraphError: A value is wrong, or both states belong to finished graphs.
        """
        after = self._seconds(seconds, "timeout_to seconds", above_zero=True)
        self._lead_to(other, "timeout", "timeout_to", {"after": after})

    def fails_to(self, other: Self) -> None:
        """Move the rows that failed ``max_attempts`` times in a row; declared once per state.

        Args:
            other: The state that they move to.

        Raises:
            GraphError: A value is wrong, or both states belong to finished graphs.
        """
        self._lead_to(other, "failure", "fails_to", {})

    def on(
        self,
        trigger: str,
        *,
        to: Self | None = None,
        when: Condition = None,
        action: Action | None = None,
        permission: Permission | None = None,
        form: Form | None = None,
        label: Any = None,
        interrupts: bool = False,
        unhandled: Unhandled | None = None,
    ) -> None:
        """Declare what the event ``trigger`` does to a row in this state.

        Several transitions for one event are tried in the order of their declaration. No check and
        no ``state_move()`` may take them.

        Args:
            trigger: The event's name, an identifier of at most 100 characters.
            to: The state that the row moves to; None, the default, calls the action and leaves the
                row where it is, also in a terminal state.
            when: What must be true: a condition of the database (``Q``, ``Exists``, a lookup), or a
                classmethod ``(row, event)`` of the graph, its name, or another callable. Nothing by
                default.
            action: What is done with the transition, in its transaction: a classmethod
                ``(row, event)`` of the graph, its name, or another callable, ``def`` or
                ``async def``. Nothing by default.
            permission: Who may send the event, where it is sent by a user: ``"app.codename"``, or a
                classmethod ``(row, user)`` of the graph, its name, or another callable. Everybody
                by default.
            form: Class of the form, or its dotted path, in which people give what the event needs;
                for the pages that offer it.
            label: What people read, possibly a lazy translation; the trigger by default.
            interrupts: Whether the event ends a check that runs on the row, instead of waiting for
                it; False by default.
            unhandled: What happens to a durable event of this name in a state that does not take
                it: ``"retry"`` keeps it until it expires, ``"discard"`` and ``"fail"`` end it at
                once. It holds for the whole graph, whose own ``unhandled`` is the default.

        Raises:
            GraphError: A value is wrong, or both states belong to finished graphs.
        """
        options = {
            "trigger": trigger,
            "when": when,
            "action": action,
            "permission": permission,
            "form": form,
            "label": label,
            "interrupts": interrupts,
            "unhandled": unhandled,
        }
        if fault := _no_trigger(trigger):
            self._refuse(fault)
        elif unhandled is not None and unhandled not in UNHANDLED:
            self._refuse(
                f"on({trigger!r}): unhandled={unhandled!r} is none of 'retry', 'discard' and"
                " 'fail'; give one of them."
            )
        self._lead_to(to, "event", f"on({trigger!r})", options)

    def declare_lifetime(self, after: Duration) -> None:
        """Note that rows move here when they have lived so long: ``StateGraph.lifetime()``."""
        if self.node is not None:
            self._refuse(
                "lifetime() comes too late, because the state belongs to a finished graph;"
                " redeclare it in the body of a subclass and declare the lifetime there."
            )
        self.declared_lifetimes.append(self._seconds(after, "lifetime after", above_zero=True))

    def _lead_to(
        self, other: object, kind: EdgeKind | Literal["event"], verb: str, options: dict[str, Any]
    ) -> None:
        if not isinstance(other, StateDeclaration) and not (other is None and kind == "event"):
            self._refuse(f"{verb} needs a State of the graph, not {other!r}; pass the State.")
            return
        # A finished graph stays as it is: a subclass's body notes the edge at the state it adds.
        holder = self if self.node is None or other is None else other
        if holder.node is not None:
            if other is None:
                ends, one = "comes too late, because the state belongs to a finished graph", "it"
            else:
                ends = f"{other!r} comes too late, because both states belong to finished graphs"
                one = "one of them"
            self._refuse(
                f"{verb} {ends}; redeclare {one} in the body of a subclass and declare the"
                " transition there."
            )
        holder.declared_edges.append((next(_serial), DeclaredEdge(self, other, kind, options)))

    def _seconds(self, value: object, name: str, *, above_zero: bool = False) -> float:
        """The duration in seconds; a wrong one is refused, and counts as 0 until it is reported."""
        try:
            return as_seconds(value, name, above_zero=above_zero)
        except GraphError as error:
            self._refuse(str(error))
            return 0.0

    def _refuse(self, fault: str) -> None:
        # In a class body no sentence could name the state: validation reports what is noted there.
        if self.node is not None:
            raise GraphError(f"{self.node.path}: {fault}")
        self.faults.append(fault)


def _not_a_condition(when: object) -> str | None:
    """What is wrong with ``when=…``; None if nothing is.

    A condition is what a database can evaluate. Django's own (``Q``, ``Exists``, lookups, true or
    false expressions) have an attribute ``conditional`` that says so, which is all that is asked
    here: a graph is plain Python.
    """
    if callable(when):
        return (
            f"when={when!r} is called by nobody, because a guard is asked in the database; give a"
            " condition such as Q(paid=True), and write what needs Python in the check."
        )
    if not is_condition(when):
        return (
            f"when={when!r} is not a condition of the database; give a Q, an Exists or a lookup,"
            " such as Q(paid=True)."
        )
    return None


def _no_trigger(trigger: object) -> str | None:
    """What is wrong with the name of an event; None if nothing is."""
    if isinstance(trigger, str) and trigger.isidentifier() and len(trigger) <= LONGEST_TRIGGER:
        return None
    return (
        f"on({trigger!r}) does not name an event; give an identifier of at most {LONGEST_TRIGGER}"
        " characters, such as 'release'."
    )
