"""Rows that were in a batch which came to nothing, as the database has them now.

The check had these instances, and what it did to them its next call shall not find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import QuerySet

from django_fsmworker.models.keys import with_keys
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.runner.work.batch import Batch, Work, attempts_of
from django_fsmworker.store import Hold


def load_again(work: Work, give_back: Callable[[Attempt, None], None]) -> bool:
    """Give stale rows fresh instances; False if none of the rows is ours any more.

    A batch that still has others gives those back and goes on without them.
    """
    attempts = attempts_of(work)
    stale = [each for each in attempts if each.stale]
    found = held(work.store.alias, work.model, [each.hold for each in stale])
    for each in stale:
        if each.pk in found:
            each.row, each.stale = found[each.pk], False
    gone = [each for each in stale if each.stale]
    if len(gone) == len(attempts):
        return False
    if isinstance(work, Batch):
        work.attempts, work.stale = [each for each in attempts if not each.stale], False
    for each in gone:
        give_back(each, None)
    return True


def held(alias: str, model: Any, holds: Sequence[Hold]) -> dict[Any, Any]:
    """By key, those of these rows that still have their state and their claim."""
    tokens = {hold.pk: hold.token for hold in holds}
    rows: QuerySet[Any] = QuerySet(model, using=alias)
    found = rows.filter(with_keys(model, list(tokens)), state__in={hold.state for hold in holds})
    return {row.pk: row for row in found if row.state_claim == tokens[row.pk]}
