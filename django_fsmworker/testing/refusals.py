"""Events that a row does not take."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from django_fsmworker.exceptions import NotAllowed, Refusal
from django_fsmworker.models import StatorModel
from django_fsmworker.models.keys import key_name, key_of


def assert_refused(
    row: StatorModel, trigger: str, reason: Refusal, *, by: Any = None, **context: Any
) -> NotAllowed:
    """Assert that ``row`` refuses an event for this reason, and that it is left as it was.

    Returns what was raised, whose ``user_message`` a test may look at. It does not wait for a check
    that is running.

    :param row: the row to which the event is sent, by ``state_send()``.
    :param trigger: the name of the event.
    :param reason: ``"unknown_event"``, ``"source_state"``, ``"condition"``, ``"permission"`` or
        ``"running"``.
    :param by: who sends it, as ``by=`` of ``state_send()``.
    :param context: what is sent with it.
    :raises AssertionError: the row takes the event, or refuses it for another reason.
    """
    before = _columns(row)
    try:
        state = row.state_send(trigger, by=by, wait=0.0, context=context)
    except NotAllowed as refused:
        assert refused.reason == reason, (
            f"{trigger} was refused for the reason {refused.reason!r}, not {reason!r}: {refused}"
        )
        assert _columns(row) == before, f"{trigger} was refused, but the row was written."
        return refused
    raise AssertionError(
        f"{row._meta.label} {row.pk} took {trigger} and is {state} now; expected was the refusal "
        f"{reason!r}."
    )


def _columns(row: StatorModel) -> dict[str, Any]:
    rows: QuerySet[Any] = QuerySet(type(row), using=row._state.db)
    found: dict[str, Any] = rows.values().get(**{key_name(type(row)): key_of(row)})
    return found
