"""The checks of a bulk action: see how many rows it is for, then do it to some at a time.

What is done to rows and how far the action has come is written in one transaction, which is fenced
as every write of an attempt is: the action still has this claim and this state. So whatever dies or
is stopped at whatever moment, no row is done twice, and none is left behind.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import DatabaseError
from django.db.models import QuerySet

from django_fsmworker.bulk.batches import BATCH, Tally, write_batch
from django_fsmworker.bulk.freezing import NotFrozen, thaw
from django_fsmworker.bulk.verbs import VERBS, BulkVerb
from django_fsmworker.deadline import DEADLINE
from django_fsmworker.exceptions import NotAllowed, TryAgainLater, UnknownState
from django_fsmworker.logs import logger_for
from django_fsmworker.models.bulk_action import BulkAction, BulkActionStates
from django_fsmworker.models.locking import patiently
from django_fsmworker.store import Store, store_for
from django_fsmworker.store.bulk_rows import FrozenQuery, keys_after, number_in
from django_fsmworker.store.errors import is_refusal

logger = logger_for(__name__)

# Seconds after which no further batch is begun, so that other rows have their turn.
BUDGET = 2.0

PENDING, RUNNING, DONE, FAILED = (
    BulkActionStates.pending.name,
    BulkActionStates.running.name,
    BulkActionStates.done.name,
    BulkActionStates.failed.name,
)

# Keys that are read at once, for several batches: to find them may take a look at many rows.
AHEAD = 10_000

# What no further try would change.
FOR_GOOD = (NotAllowed, NotFrozen, UnknownState, ValidationError)


class Superseded(Exception):
    """Somebody has stopped the action, or its claim is another's; the batch is rolled back."""


def begin(action: BulkAction) -> Any:
    """The check of a pending action."""
    work = _Work(action)
    return work.unless_refused(work.count)


def run(action: BulkAction) -> Any:
    """The check of a running action."""
    work = _Work(action)
    return work.unless_refused(work.go_on)


class _Work:
    """One call of a check."""

    def __init__(self, action: BulkAction) -> None:
        self._action = action
        self._store: Store = store_for(str(action._state.db))

    def unless_refused(self, check: Any) -> Any:
        """The answer of ``check()``; the failed state, with a note, where another try is no use."""
        try:
            return check()
        except Superseded:
            return None  # the fence drops that answer
        except FOR_GOOD as error:
            text = str(error.args[0]) if error.args else type(error).__name__
            try:
                self._write(note=text)
            except Superseded:
                return None
            return FAILED

    def count(self) -> str:
        """Note how many rows match, and the key behind which rows are new."""
        _, model, query = self._found()
        if not self._action.end:
            rows: QuerySet[Any] = QuerySet(model, using=self._store.alias)
            last = rows.order_by("-pk").values_list("pk", flat=True).first()
            if last is None:
                return RUNNING  # which finds nothing, either
            self._write(end=str(last))
        # A count that has failed, as by taking too long, is done without.
        if self._action.matched is None and not self._action.state_failures:
            self._write(matched=number_in(self._store.alias, query))
        return RUNNING

    def go_on(self) -> str:
        """Write as many batches as there is time for."""
        verb, model, query = self._found()
        tally = Tally(self._action.done, dict(self._action.skipped))
        key = model._meta.pk.to_python
        if not self._action.end:  # there was no row at all
            return DONE
        end = key(self._action.end)
        cursor = key(self._action.cursor) if self._action.cursor else None
        alias, ahead = self._store.alias, list[Any]()
        size = 1 if self._is_careful else BATCH
        until = time.monotonic() + min(BUDGET, DEADLINE.get() / 4)
        while True:
            ahead = ahead or keys_after(model, alias, query, cursor, end, AHEAD)
            if not ahead:
                self._log(tally)
                return DONE
            keys, ahead = ahead[:size], ahead[size:]
            self._write_batch(verb, model, query, tally, keys)
            cursor = keys[-1]
            if time.monotonic() >= until:
                raise TryAgainLater(0.0)

    @property
    def _is_careful(self) -> bool:
        """Whether the last check has failed: maybe of one row, which is to be found."""
        return bool(self._action.state_failures)

    def _write_batch(
        self, verb: BulkVerb, model: Any, query: FrozenQuery, tally: Tally, keys: list[Any]
    ) -> None:
        """A batch; if the database refuses a row that stands alone, that is left out."""
        try:
            patiently(self._store.alias, partial(self._batch, verb, model, query, tally, keys))
        except DatabaseError as error:
            if not (self._is_careful and is_refusal(error)):
                raise
            logger.warning(
                "Bulk action %s leaves out %s %s, which the database refuses to write: %s",
                self._action.pk,
                model._meta.label,
                keys[0],
                error,
                extra={"action": "bulk_refused", "model": self._action.model, "pk": keys[0]},
            )
            tally.skip("refused", keys)
            self._note(tally, keys[-1])

    def _note(self, tally: Tally, cursor: Any) -> None:
        """Write how far it has come."""
        counts = {"done": tally.done, "left_out": tally.left_out, "skipped": tally.skipped}
        self._write(cursor=str(cursor), **counts)

    def _batch(
        self,
        verb: BulkVerb,
        model: Any,
        query: FrozenQuery,
        tally: Tally,
        keys: list[Any],
    ) -> None:
        """One transaction, with what was done to the rows and how far that has come."""
        with self._store.transaction():
            new = Tally(tally.done, {why: list(each) for why, each in tally.skipped.items()})
            alias, careful = self._store.alias, self._is_careful
            new.add(write_batch(verb, model, alias, keys, query, skip_locked=careful))
            self._note(new, keys[-1])
        tally.done, tally.skipped = new.done, new.skipped

    def _found(self) -> tuple[BulkVerb, Any, FrozenQuery]:
        """What is to be done, to the rows of which model, found by which query."""
        action = self._action
        try:
            model, kind = apps.get_model(action.listed), VERBS[action.verb]
        except LookupError as error:
            raise NotFrozen(
                f"This version does not know how to {action.verb} rows of {action.listed}."
            ) from error
        verb = kind(model, action.subject, self._user(), action.reason, action.context)
        return verb, model, thaw(action.rows)

    def _user(self) -> Any:
        """Who has started it, as somebody with permissions; raises if that is nobody any more."""
        if self._action.by_pk is None:
            return self._action.by or None
        from django.contrib.auth import get_user_model

        users = get_user_model()
        user = users._base_manager.filter(pk=self._action.by_pk).first()
        if user is None or not getattr(user, "is_active", True):
            raise NotFrozen(f"{self._action.by}, who has started it, is no active user any more.")
        return user

    def _write(self, **columns: Any) -> None:
        """Write how far it has come, if the claim still holds."""
        action = self._action
        rows: QuerySet[Any] = QuerySet(BulkAction, using=self._store.alias)
        token = action.__dict__["state_claim"]
        held = {"state_claim__isnull": True} if token is None else {"state_claim": token}
        if not rows.filter(pk=action.pk, state=action.__dict__["state"], **held).update(**columns):
            raise Superseded

    def _log(self, tally: Tally) -> None:
        action = self._action
        logger.info(
            "Bulk action %s is done: %s, %d rows written, %d left out.",
            action.pk,
            action,
            tally.done,
            tally.left_out,
            extra={"action": "bulk_done", "model": action.model, "pk": action.pk},
        )
