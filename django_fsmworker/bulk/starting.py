"""A bulk action is written, in the database of its rows; stopped, and resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet

from django_fsmworker.bulk.freezing import freeze
from django_fsmworker.bulk.verbs import VERBS
from django_fsmworker.models.bulk_action import BulkAction, BulkActionStates
from django_fsmworker.models.discovery import write_database
from django_fsmworker.models.functions import DatabaseNow
from django_fsmworker.models.keys import declaring_model

LONGEST_NAME = 255
STOPPED_FROM = (BulkActionStates.pending.name, BulkActionStates.running.name)
RESUMED_FROM = (BulkActionStates.stopped.name, BulkActionStates.failed.name)


def start(
    name: str,
    rows: QuerySet[Any],
    subject: str = "",
    *,
    by: Any = None,
    reason: str = "",
    context: Mapping[str, Any] | None = None,
    described: str = "",
) -> BulkAction:
    """Have ``name``, a verb of ``VERBS``, done to all of ``rows`` by the runners of these rows.

    ``by`` is a user or the name of a program; a user who is deleted or no longer active meanwhile
    ends it. ``described`` is what people read of the filter. Raises ``NotFrozen`` if the filter
    cannot be given to the runners, and ``KeyError`` for an unknown verb.
    """
    VERBS[name]  # an unknown one is not written
    alias, is_user = write_database(rows), hasattr(by, "has_perm")
    return BulkAction._base_manager.using(alias).create(
        model=declaring_model(rows.model)._meta.label,
        listed=rows.model._meta.label,
        verb=name,
        subject=subject,
        context=dict(context or {}),
        rows=freeze(rows.using(alias)),
        described=described,
        by="" if by is None else str(by)[:LONGEST_NAME],
        by_pk=str(by.pk) if is_user else None,
        reason=reason[:500],
        started=DatabaseNow(),
    )


def stop(action: BulkAction, *, by: Any = None, reason: str = "") -> None:
    """Let the action rest where it is; the batch that is being written is finished, or undone."""
    action.state_move(BulkActionStates.stopped, by=by, reason=reason, running="revoke")


def resume(action: BulkAction, *, by: Any = None, reason: str = "") -> None:
    """Let an action that was stopped, or has failed, go on where it was."""
    action.state_move(
        BulkActionStates.pending, by=by, reason=reason, set={"note": ""}, running="revoke"
    )
