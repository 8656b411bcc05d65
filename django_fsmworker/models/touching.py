"""A touch: a row is to be looked at soon, however many say so.

A touch of a free row makes it due, unless it is due before; so the first of many is the only one
that writes. A row that a runner holds may have been looked at before what the touch is about, and
the write that settles it sets a new due time. It is **touched**: its due time is put just behind
its lease, where no claim and no renewal puts it, and settling keeps that due time if it is the
earlier one. If nobody settles the row, it is due when its lease lapses, as ever.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import router
from django.db.models import Case, DateTimeField, ExpressionWrapper, F, Q, QuerySet, When

from django_fsmworker.graph.durations import Duration, as_seconds
from django_fsmworker.models.fields import changes
from django_fsmworker.models.functions import DatabaseNow, leased, unleased, update_row
from django_fsmworker.models.hints import hint_due
from django_fsmworker.models.keys import declaring_model, key_of

TOUCHED = 0.001  # seconds between the lease and the due time of a row that was touched


def touched_sql(due: str, lease: str) -> str:
    """The condition that a row was touched while it was held, in the SQL of every database."""
    return f"{due} > {lease}"


def touch(instance: Any, after: Duration, at_most: Duration) -> bool:
    """Make the row of ``instance`` due ``after`` seconds from now; whether that was necessary."""
    soon = as_seconds(after, "state_touch() after")
    later = max(soon, as_seconds(at_most, "state_touch() at_most"))
    using = router.db_for_write(type(instance), instance=instance)
    model = declaring_model(type(instance))
    row: QuerySet[Any] = QuerySet(model, using=using).filter(pk=key_of(instance))
    checked = [state.name for state in model.state_graph.states.values() if state.checked]
    found = update_row(
        row,
        Q(state__in=checked) & _would_be_later(soon, later),
        {"state_next": _due(soon, later)},
        ["state_next", "state_lease"],
    )
    if found is None:
        return False
    if "state_next" in instance.__dict__ and "state_next" not in changes(instance):
        instance.__dict__["state_next"] = found["state_next"]
    if found["state_lease"] is None:
        hint_due(model, using, soon)
    return True


def _would_be_later(soon: float, later: float) -> Q:
    """The condition of rows that would be looked at later than a touch asks for."""
    is_due_later = Q(state_next__isnull=True) | Q(state_next__gt=_in(soon))
    healthy = Q(state_failures=0) & is_due_later
    failing = Q(state_failures__gt=0, state_next__gt=_in(later))
    untouched = Q(state_next__lte=F("state_lease"))
    return (_will_not_be_settled() & (healthy | failing)) | (_will_be_settled() & untouched)


def _due(soon: float, later: float) -> Case:
    return Case(
        When(_will_be_settled(), then=F("state_lease") + timedelta(seconds=TOUCHED)),
        When(state_failures=0, then=_in(soon)),
        default=_in(later),
        output_field=DateTimeField(),
    )


def _will_be_settled() -> Q:
    """The condition of rows whose check runs; one whose claim was revoked has its due time."""
    return leased() & Q(state_claim__gte=0)


def _will_not_be_settled() -> Q:
    return unleased() | Q(state_claim__isnull=True) | Q(state_claim__lt=0)


def _in(seconds: float) -> Any:
    moment = DatabaseNow() + timedelta(seconds=seconds)
    return ExpressionWrapper(moment, output_field=DateTimeField())
