"""What can be done to many rows: to which it applies, why it leaves others out, and the write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from django.db.models import Case, Q, QuerySet
from django.utils.translation import gettext_lazy as _

from django_fsmworker.events.submission import Submission, common
from django_fsmworker.events.submitting import submit_for
from django_fsmworker.graph import State
from django_fsmworker.models.forcing import Entry, force
from django_fsmworker.models.functions import unleased
from django_fsmworker.models.hints import hint_due, hint_entered
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.operating import (
    WHY_NOT,
    Cancel,
    Operation,
    Park,
    Retry,
    Unpark,
    operate_together,
    why_not,
)
from django_fsmworker.models.telling import send_state_changed
from django_fsmworker.models.transition_log import by_hand

WHY = WHY_NOT | {
    "already": _("It is in that state already."),
    "changed": _("It changed meanwhile, and matches the filters no more."),
    "gone": _("It was deleted meanwhile."),
    "locked": _("Somebody else had it locked for a long time."),
    "refused": _("The database refuses to write it; the log says why."),
}
"""The reasons to leave a row out."""


class BulkVerb(ABC):
    """One thing that is done to rows of ``model``; ``by`` and ``reason`` are for the records.

    ``subject`` is the event or the state that it is about, if it is about one.
    """

    takes: str = ""
    """What ``subject`` is: ``"event"``, ``"state"`` or nothing."""

    def __init__(
        self,
        model: Any,
        subject: str = "",
        by: Any = None,
        reason: str = "",
        context: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = declaring_model(model)
        self.graph = self.model.state_graph
        self.subject, self.by, self.reason, self.context = subject, by, reason, context or {}

    @abstractmethod
    def eligible(self) -> Q:
        """The condition of the rows to which it applies."""

    @abstractmethod
    def reasons(self) -> tuple[list[tuple[Q, str]], str]:
        """Why others are left out, the first that is true, and what else it is if none is."""

    @abstractmethod
    def write(self, rows: QuerySet[Any]) -> int:
        """Write ``rows``, which are locked and eligible, within a transaction; how many it were."""

    def refuse(self) -> None:
        """Raise what it would fail with whatever the rows are."""
        return

    def why(self) -> Case:
        """An expression with the reason to leave a row out; empty if it applies to the row."""
        return why_not(self.eligible(), *self.reasons())


class _Operating(BulkVerb):
    """One of the operators' verbs."""

    kind: type[Operation]

    @property
    def operation(self) -> Operation:
        return self.kind(self.model, self.by, self.reason)

    def eligible(self) -> Q:
        return self.operation.eligible()

    def reasons(self) -> tuple[list[tuple[Q, str]], str]:
        return self.operation.reasons()

    def write(self, rows: QuerySet[Any]) -> int:
        operation = self.operation
        found = operate_together(operation, rows)
        if found:
            operation.tell(rows.db)
        return len(found)


class RetryRows(_Operating):
    """Rows are due now."""

    kind = Retry


class ParkRows(_Operating):
    """Rows are kept from being run."""

    kind = Park


class UnparkRows(_Operating):
    """Parked rows are due again."""

    kind = Unpark


class CancelRows(_Operating):
    """What runs on rows is ended."""

    kind = Cancel


class SendToRows(BulkVerb):
    """An event is submitted for each row; the runners deliver it."""

    takes = "event"

    def eligible(self) -> Q:
        return Q(state__in=[s.name for s in self.graph.states.values() if self.subject in s.events])

    def reasons(self) -> tuple[list[tuple[Q, str]], str]:
        return [], "state"

    def refuse(self) -> None:
        common(self._submission, self.model)

    def write(self, rows: QuerySet[Any]) -> int:
        return submit_for(rows, self._submission)

    @property
    def _submission(self) -> Submission:
        return Submission(None, self.subject, self.context, by=self.by)


class _Moving(BulkVerb):
    """Rows enter the state of that name."""

    takes = "state"
    cause = "forced"

    @property
    def target(self) -> State:
        state: State = self.graph.get(self.subject)
        return state

    def refuse(self) -> None:
        _ = self.target

    def write(self, rows: QuerySet[Any]) -> int:
        target, using = self.target, rows.db
        logging = by_hand(target, self.cause, self.by, self.reason)
        number, moved = force(rows, Entry(target, logging))
        if number:
            hint_due(self.model, using, target.first_due)
            hint_entered(self.model, using, [target])
            told = {"by": self.by, "reason": self.reason}
            send_state_changed(self.model, moved, target.name, using, self.cause, **told)
        return number


class MoveRows(_Moving):
    """Rows go a declared way, as by ``state_move(running="refuse")``."""

    cause = "move"

    def eligible(self) -> Q:
        return unleased() & self._from()

    def reasons(self) -> tuple[list[tuple[Q, str]], str]:
        return [(self._from(), "running")], "state"

    def _from(self) -> Q:
        states, target = self.graph.states.values(), self.target
        return Q(state__in=[state.name for state in states if target in state.unguarded])


class ForceRows(_Moving):
    """Rows are put into a state, whatever leads there; what runs on them is ended."""

    def eligible(self) -> Q:
        return ~Q(state=self.target.name)

    def reasons(self) -> tuple[list[tuple[Q, str]], str]:
        return [], "already"


class RestartRows(_Moving):
    """Rows begin again in a state, also those that are in it; not those that a runner holds."""

    def eligible(self) -> Q:
        return unleased()

    def reasons(self) -> tuple[list[tuple[Q, str]], str]:
        return [], "running"


VERBS: dict[str, type[BulkVerb]] = {
    "retry": RetryRows,
    "park": ParkRows,
    "unpark": UnparkRows,
    "cancel": CancelRows,
    "send": SendToRows,
    "move": MoveRows,
    "force": ForceRows,
    "restart": RestartRows,
}


LABELS = {
    "retry": _("Retry now"),
    "park": _("Park"),
    "unpark": _("Unpark"),
    "cancel": _("Cancel what runs"),  # and not the order, which an event of that name may cancel
    "send": _("Send an event"),
    "move": _("Move to a state"),
    "force": _("Force into a state"),
    "restart": _("Restart in a state"),
}
"""What people read of each."""


def subjects(model: Any, name: str) -> list[tuple[str, Any]]:
    """The events or states that the verb of this name can be about, each with its label."""
    graph = declaring_model(model).state_graph
    states = list(graph.states.values())
    if name == "send":
        found: dict[str, Any] = {}
        for state in states:
            for trigger, edges in state.events.items():
                found.setdefault(trigger, edges[0].label or trigger)
        return list(found.items())
    if name == "move":
        states = [each for each in states if any(each in s.unguarded for s in states)]
    elif name == "restart":
        states = [each for each in states if each.automatic]
    return [(each.name, each.label) for each in states] if VERBS[name].takes else []
