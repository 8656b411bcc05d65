"""What people do to rows that are in trouble: retry, park, unpark, cancel; one row, or many.

None of it moves a row: the state stays, and so does the time at which the row entered it, from
which its timeout counts.

A row that is **parked by hand** has nothing due, and its count of failures is below zero: -1 less
what it was (``parked_count()``). So it is neither a failing row nor a stranded one, to sweeps and
to older builds, too. Who parked it and why is in its failure record.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import router, transaction
from django.db.models import Case, CharField, DateTimeField, F, Q, QuerySet, Value, When
from django.db.models.functions import Least
from django.utils.translation import gettext_lazy as _

from django_fsmworker import clock
from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.graph.durations import Duration, as_seconds
from django_fsmworker.logs import logger_for
from django_fsmworker.models.discovery import write_database
from django_fsmworker.models.entering import (
    claim_after_move,
    lease_after_move,
    note_move,
    own_claim,
    within_life,
)
from django_fsmworker.models.fields import parked_count
from django_fsmworker.models.functions import DatabaseNow, leased, unleased
from django_fsmworker.models.hints import hint_due, hint_entered, hint_revoked
from django_fsmworker.models.keys import (
    declaring_model,
    in_order,
    key_name,
    key_of,
    portions,
    row_key,
    stored,
    with_keys,
)
from django_fsmworker.models.locking import lockable, locked, patiently
from django_fsmworker.models.records import FAILED, FailureRecord, upsert_failures
from django_fsmworker.models.refusals import not_allowed
from django_fsmworker.models.resolving import resolve_failures, unresolved
from django_fsmworker.models.transition import StateChange

logger = logger_for(__name__)

# Rows that are locked and written in one transaction.
BATCH = 1000

PARKED_BY_HAND = "django_fsmworker.exceptions.Parked"
LONGEST_NAME = 200

WHY_NOT = {
    "running": _("A runner holds it."),
    "due": _("It is due already."),
    "state": _("Its state does not allow it."),
    "not_parked": _("It is not parked."),
    "idle": _("No check runs on it."),
}
"""Why something is not done to a row, by the code that ``why_not()`` answers with."""


def why_not(eligible: Q, reasons: Sequence[tuple[Q, str]], otherwise: str) -> Case:
    """An expression with the code of why rows are left out; empty for those that are eligible.

    It is that of the first of ``reasons`` that is true of a row, or else ``otherwise``.
    """
    return Case(
        When(eligible, then=Value("")),
        *(When(condition, then=Value(code)) for condition, code in reasons),
        default=Value(otherwise),
        output_field=CharField(),
    )


class Operation(ABC):
    """One thing that is done to rows; ``by`` and ``reason`` are for the record and the log."""

    verb: str
    done: str
    otherwise = "state"
    ends_checks = False

    def __init__(self, model: Any, by: Any = None, reason: str = "") -> None:
        self.model = declaring_model(model)
        self.states = list(self.model.state_graph.states.values())
        self.by, self.reason = by, reason

    @abstractmethod
    def eligible(self) -> Q:
        """The condition of the rows of which something is written."""

    def reasons(self) -> tuple[list[tuple[Q, str]], str]:
        """Why other rows are left out, as ``why_not()`` takes it."""
        return [], self.otherwise

    @abstractmethod
    def columns(self, own: int | None) -> dict[str, Any]:
        """What is written, in this order: MySQL takes the new value for what comes after it."""

    def note(self, found: Sequence[Found], using: str) -> None:
        """Write what belongs to it into the failure records of the rows, in their transaction."""
        return

    @abstractmethod
    def tell(self, using: str) -> None:
        """Tell the runners, after the commit."""

    def refuse(self, name: str, state: str) -> None:
        """Raise ``NotAllowed`` if nothing like it can be done to a row in ``state``."""
        return

    def refuse_words(self) -> None:
        """Raise ``ValueError`` if what was said about it is not enough for the record."""
        return

    @property
    def checked(self) -> list[str]:
        """The names of the states with a check."""
        return [state.name for state in self.states if state.checked]

    def timeouts(self) -> list[When]:
        """When a row of a state without a check is due: at its timeout, or when its life ends."""
        found = []
        for state in self.states:
            due = None if state.checked else self.due_without_check(state)
            if due is not None:
                found.append(When(state=state.name, then=due))
        return found

    def due_without_check(self, state: Any) -> Any:
        """When a row of ``state`` is due, unless it is for its check; None for never."""
        timeout: Any = None
        if state.timeout_after is not None:
            timeout = F("state_changed") + timedelta(seconds=state.timeout_after)
        return within_life(self.model, state, timeout)


Found = tuple[Any, str, int]
"""A row that is locked: its key, its state and its count of failures."""


class Retry(Operation):
    """Rows are due now, with all their attempts, whatever put that off."""

    verb, done = "retry", "retried"

    def eligible(self) -> Q:
        waits = Q(state_next__isnull=True) | Q(state_next__gt=DatabaseNow())
        known = [state.name for state in self.states]
        tried = Q(state__in=self.checked) | Q(state__in=known) & ~Q(state_failures=0)
        return unleased() & waits & tried

    def reasons(self) -> tuple[list[tuple[Q, str]], str]:
        due = Q(state__in=self.checked, state_next__lte=DatabaseNow())
        return [(leased(), "running"), (due, "due")], self.otherwise

    def columns(self, own: int | None) -> dict[str, Any]:
        return {"state_next": DatabaseNow(), "state_failures": 0}

    def note(self, found: Sequence[Found], using: str) -> None:
        resolve_failures(self.model, [key for key, _, failures in found if failures], using)

    def tell(self, using: str) -> None:
        hint_due(self.model, using, 0.0)

    def refuse(self, name: str, state: str) -> None:
        declared = self.model.state_graph.states.get(state)
        if declared is None or not declared.automatic:
            why = _why_idle(declared)
            raise not_allowed(
                f"{name} cannot be retried in the state {state}: {why}. Move it instead.",
                "source_state",
            )


class Park(Operation):
    """Rows have nothing due until somebody unparks or moves them; what runs on them is ended."""

    verb, done = "park", "parked"
    ends_checks = True

    def eligible(self) -> Q:
        return Q(state__in=[state.name for state in self.states if _may_be_parked(state)])

    def columns(self, own: int | None) -> dict[str, Any]:
        return {
            "state_next": None,
            "state_failures": Case(
                When(state_failures__lt=0, then=F("state_failures")),
                default=parked_count(F("state_failures")),
            ),
            "state_lease": lease_after_move(own),
            "state_claim": claim_after_move(own),
        }

    def note(self, found: Sequence[Found], using: str) -> None:
        now, by = clock.now(), _name(self.by)
        parked = {"parked": now, "parked_by": by, "parked_reason": self.reason}
        rows = {row_key(key): state for key, state, _ in found}
        on_record = unresolved(self.model, [key for key, *_ in found], using)
        failing = set(on_record.values_list("row", flat=True))
        on_record.update(**parked)
        new = [
            FailureRecord(
                model=self.model._meta.label,
                row=row,
                state=state,
                error=PARKED_BY_HAND,
                message=self.reason,
                count=0,
                first_seen=now,
                last_seen=now,
                worker=by,
                **parked,
            )
            for row, state in sorted(rows.items())
            if row not in failing
        ]
        # There may be the record of a failure that is resolved, which begins anew.
        upsert_failures(new, [*FAILED, *parked], using)

    def tell(self, using: str) -> None:
        hint_revoked(self.model, using)

    def refuse_words(self) -> None:
        if not str(self.reason or "").strip():
            raise ValueError("Rows are parked for a reason, which is put on record: say why.")

    def refuse(self, name: str, state: str) -> None:
        declared = self.model.state_graph.states.get(state)
        if declared is None or not _may_be_parked(declared):
            why = _why_idle(declared)
            raise not_allowed(
                f"{name} cannot be parked in the state {state}: {why}.", "source_state"
            )


class Unpark(Operation):
    """Parked rows are due again: those parked by hand with the failures that they had."""

    verb, done = "unpark", "unparked"
    otherwise = "not_parked"

    def eligible(self) -> Q:
        known = [state.name for state in self.states if not state.terminal]
        return Q(state__in=known, state_next__isnull=True) & ~Q(state_failures=0)

    def columns(self, own: int | None) -> dict[str, Any]:
        has_failed = Q(state_failures__lt=-1) | Q(state_failures__gt=0)
        due = Case(
            When(Q(state__in=self.checked) | has_failed, then=DatabaseNow()),
            *self.timeouts(),
            default=None,
            output_field=DateTimeField(),
        )
        failures = Case(
            When(state_failures__lt=0, then=parked_count(F("state_failures"))), default=Value(0)
        )
        return {"state_next": due, "state_failures": failures}

    def note(self, found: Sequence[Found], using: str) -> None:
        failed = [key for key, _, failures in found if failures > 0]
        by_hand = [key for key, _, failures in found if failures < 0]
        resolve_failures(self.model, failed, using)
        if by_hand:
            only_parked = unresolved(self.model, by_hand, using).filter(error=PARKED_BY_HAND)
            only_parked.update(resolved=clock.now())

    def tell(self, using: str) -> None:
        hint_due(self.model, using, 0.0)
        hint_entered(self.model, using, self.model.state_graph.swept_states)


class Cancel(Operation):
    """What runs on rows is ended, without a failure; they are due again after a while."""

    verb, done = "cancel", "cancelled"
    otherwise = "idle"
    ends_checks = True

    def __init__(
        self, model: Any, by: Any = None, reason: str = "", retry_in: Duration | None = None
    ) -> None:
        super().__init__(model, by, reason)
        self.retry_in = None if retry_in is None else as_seconds(retry_in, "retry_in")

    def eligible(self) -> Q:
        return leased() & Q(state_claim__gte=0)

    def columns(self, own: int | None) -> dict[str, Any]:
        # The holder releases the row as it finds it, so this is when it is due afterwards.
        return {
            "state_next": Case(
                *map(self._due, (state for state in self.states if state.checked)),
                *self.timeouts(),
                default=F("state_next"),
                output_field=DateTimeField(),
            ),
            "state_lease": lease_after_move(own),
            "state_claim": claim_after_move(own),
        }

    def _due(self, state: Any) -> When:
        wait = state.retry_after if self.retry_in is None else self.retry_in
        due: Any = DatabaseNow() + timedelta(seconds=wait)
        if state.timeout_after is not None:
            due = Least(due, F("state_changed") + timedelta(seconds=state.timeout_after))
        return When(state=state.name, then=within_life(self.model, state, due))

    def tell(self, using: str) -> None:
        hint_revoked(self.model, using)


def operate(operation: Operation, rows: QuerySet[Any]) -> int:
    """Carry out ``operation`` on ``rows``, a batch a transaction; the number of rows written.

    Rows to which it does not apply are left out. A queryset without a database means the one that
    its model is written to.
    """
    operation.refuse_words()
    rows = rows.using(write_database(rows))
    number = 0
    for some in batches(rows):
        number += len(patiently(rows.db, partial(operate_together, operation, some, None)))
    if number:
        operation.tell(rows.db)
        _log(operation, f"{number} rows of {operation.model._meta.label}", None)
    return number


def number_of(operation: Operation, rows: QuerySet[Any]) -> int:
    """On how many of ``rows`` ``operation`` would be carried out now."""
    return sum(some.filter(operation.eligible()).count() for some in batches(rows))


def left_as_they_are(operation: Operation, rows: QuerySet[Any]) -> dict[Any, str]:
    """Why some of ``rows``, which are few, would be left as they are now: sentences by key."""
    why = {}
    asked = rows.annotate(fsm_why_=why_not(operation.eligible(), *operation.reasons()))
    found = asked.values_list(key_name(rows.model), "state", "fsm_why_")
    reasons = {key: (state, code) for key, state, code in found if code}
    for key in in_order(reasons):
        state, code = reasons[key]
        name = f"{operation.model._meta.label} {row_key(key)}"
        try:
            operation.refuse(name, state)
            why[key] = f"{name} is left as it is. {WHY_NOT[code]}"
        except NotAllowed as error:
            why[key] = str(error)
    return why


def operate_on(operation: Operation, instance: Any) -> bool:
    """Carry out ``operation`` on the row of ``instance``, which then shows the row as it is.

    Returns whether anything was written. Raises ``NotAllowed`` if it cannot be done in the row's
    state, and the model's ``DoesNotExist`` if the row is gone.
    """
    operation.refuse_words()
    using = router.db_for_write(type(instance), instance=instance)
    change = StateChange(instance, using)
    change.refuse_unsaved(f"state_{operation.verb}()")
    row, own = stored(instance, using), own_claim(instance)
    if operation.ends_checks:
        note_move(instance)  # before anybody can hear of it
    found = patiently(using, partial(operate_together, operation, row, own))
    change.read_back()
    name = f"{instance._meta.label} {instance.pk}"
    if not found:
        operation.refuse(name, instance.__dict__["state"])
        return False
    operation.tell(using)
    _log(operation, name, key_of(instance))
    return True


def operate_together(
    operation: Operation, rows: QuerySet[Any], own: int | None = None
) -> list[Found]:
    """Lock the rows to which it applies in the order of their keys, and write them."""
    using, model = rows.db, operation.model
    with transaction.atomic(using=using):
        found: dict[Any, Found] = {}
        for some in lockable(rows):
            columns = ("state", key_name(rows.model), "state_failures")
            here = locked(some.filter(operation.eligible()))
            for state, key, failures in here.values_list(*columns):
                found[key] = key, state, failures
        if found:
            known: QuerySet[Any] = QuerySet(model, using=using)
            chosen = known.filter(with_keys(model, list(found)))
            chosen.update(**operation.columns(own))
            operation.note(list(found.values()), using)
    return list(found.values())


def batches(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    """``rows`` in the order of their keys, ``BATCH`` of them at a time.

    Those of a slice, a union or of groups are known by their keys, which are read first.
    """
    query, model = rows.query, rows.model
    if query.is_sliced or query.combinator or query.distinct or query.group_by:
        name = model._meta.pk.name if query.combinator else "pk"
        keys = sorted(set(rows.values_list(name, flat=True)))
        whole: QuerySet[Any] = QuerySet(model, using=rows.db)
        for some in portions(keys, BATCH):
            yield whole.filter(with_keys(model, some))
        return
    rows, last = rows.order_by("pk"), None
    while True:
        further = rows if last is None else rows.filter(pk__gt=last)
        keys = list(further.values_list("pk", flat=True)[:BATCH])
        if keys:
            yield rows.filter(with_keys(model, keys))
        if len(keys) < BATCH:
            return
        last = keys[-1]


def _may_be_parked(state: Any) -> bool:
    """Whether a runner has anything to do in ``state`` that can be put off for good."""
    ends = state.timeout_after is not None or state.lifetime_state is not None
    return state.automatic or ends


def _why_idle(state: Any) -> str:
    if state is None:
        return "the graph does not declare it"
    return "it is terminal" if state.terminal else "it is manual, so nothing is run in it"


def _name(by: Any) -> str:
    return "" if by is None else str(by)[:LONGEST_NAME]


def _log(operation: Operation, subject: str, pk: Any) -> None:
    by, reason = operation.by, operation.reason
    logger.info(
        "Rows were %s%s: %s%s.",
        operation.done,
        "" if by is None else f" by {by}",
        subject,
        f" ({reason})" if reason else "",
        extra={"action": "operated", "model": operation.model._meta.label, "pk": pk}
        | {"verb": operation.verb},
    )
