"""Putting all rows of a queryset into a state, whatever theirs is, in few statements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connections, transaction
from django.db.models import QuerySet

from django_fsmworker.graph import State
from django_fsmworker.models.discovery import write_database
from django_fsmworker.models.engine import engine
from django_fsmworker.models.entering import entering
from django_fsmworker.models.functions import known_dialect, update_counting
from django_fsmworker.models.hints import hint_due, hint_entered, hint_revoked
from django_fsmworker.models.keys import (
    MOST_KEYS,
    declaring_model,
    is_composite,
    portions,
    with_keys,
)
from django_fsmworker.models.locking import lockable, locked, patiently
from django_fsmworker.models.resolving import resolve_many, unresolved_of
from django_fsmworker.models.telling import mover, send_state_changed, wake_events
from django_fsmworker.models.transition_log import Logging, by_hand, log_locked, logs_transitions
from django_fsmworker.signals import state_changed
from django_fsmworker.traces import current_trace

Moved = list[tuple[Any, str | None]]
"""The key of each row that was moved, and the state it was in (None: it was not loaded)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How rows enter ``target``: all of them, or one, by code.

    ``own`` is the token of the mover's own claim, if it made one; every other claim is revoked.
    ``logging`` makes what the transition log keeps, where there is one.
    """

    target: State
    logging: Logging
    own: int | None = None
    keep_failures: bool = False

    def values(self, model: Any) -> dict[str, Any]:
        """What is written to rows of ``model``, for ``QuerySet.update()``."""
        return entering(
            model,
            self.target,
            self.own,
            keep_failures=self.keep_failures,
            trace=current_trace,
        )


def force_all(
    rows: QuerySet[Any],
    target: State,
    by: Any = None,
    reason: str = "",
    *,
    keep_failures: bool = False,
) -> int:
    """Force every row of ``rows`` into ``target``, hint and signal; the number of rows moved.

    A queryset without a database means the one that its model is written to. ``by`` and ``reason``
    are for the signals and the log.
    """
    by, reason = mover(by, reason)
    logging = by_hand(target, "forced", by, reason)
    rows = rows.using(write_database(rows))
    number, moved = force(rows, Entry(target, logging, keep_failures=keep_failures))
    if number:
        hint_due(rows.model, rows.db, target.first_due)
        hint_entered(rows.model, rows.db, [target])
        send_state_changed(rows.model, moved, target.name, rows.db, by=by, reason=reason)
    return number


def force(rows: QuerySet[Any], entry: Entry) -> tuple[int, Moved]:
    """Put every row of ``rows`` into the entry's target, whatever its state.

    Returns the number of rows that were moved, and these rows if a receiver wants to hear of them.
    A deadlock is tried again.
    """
    # SQLite refuses to write, if somebody else has, to whom has read first: here, for the log.
    if connections[rows.db].features.has_select_for_update or logs_transitions(rows.model):
        return patiently(rows.db, partial(_force, rows, entry))
    return _force(rows, entry)


def _force(rows: QuerySet[Any], entry: Entry) -> tuple[int, Moved]:
    """Lock the rows in the order of their keys and write them, in one transaction.

    Two updates of many rows that do not agree on an order deadlock within seconds. The rows of a
    multi-table child are locked, and reported, by the row that has the state.
    """
    model, using = declaring_model(rows.model), rows.db
    if _can_write_at_once(rows) and not _keys_are_needed(model, using, entry):
        try:
            with transaction.atomic(using=using):
                return _write_at_once(rows, entry), []
        except _KeysNeeded:
            pass
    with transaction.atomic(using=using):
        moved: dict[Any, str | None] = {}
        held = False
        for some in lockable(rows):
            for key, state, claim in log_locked(locked(some), entry.logging):
                moved[key] = state
                held = held or claim is not None
        keys = list(moved)
        for known in portions(keys, MOST_KEYS):
            chosen: QuerySet[Any] = QuerySet(model, using=using)
            chosen.filter(with_keys(model, known)).update(**entry.values(model))
        if not entry.keep_failures:
            resolve_many(model, keys, using)
        wake_events(model, keys, using)
        if held:
            hint_revoked(model, using)
    return len(moved), list(moved.items())


def _can_write_at_once(rows: QuerySet[Any]) -> bool:
    """Whether ``rows`` can be locked and written in one statement, with nothing read before.

    The states that they came from are read for signals only. A subquery that locks rows of a
    parent's table is not told from one that locks those of the child's. Some databases cannot lock
    any number of rows. The log of transitions names them.
    """
    model = declaring_model(rows.model)
    return (
        known_dialect(connections[rows.db]).most_locked is None
        and rows.model._meta.concrete_model is model
        and not is_composite(model)
        and not state_changed.has_listeners(model)
        and not logs_transitions(model)
    )


def _keys_are_needed(model: Any, using: str, entry: Entry) -> bool:
    """Whether rows of the model have failed, or events are there that may wait for them.

    Then it has to be known which rows are moved.
    """
    if not entry.keep_failures and unresolved_of(model, using).exists():
        return True
    return bool(model.state_graph.triggers) and engine().has_events(model, using)


class _KeysNeeded(Exception):
    """Since rows were looked at, one has failed, or an event has come to wait."""


def _write_at_once(rows: QuerySet[Any], entry: Entry) -> int:
    """Lock and write ``rows``, whose keys nothing asks for; the number of rows."""
    model, using = declaring_model(rows.model), rows.db
    number = held = 0
    for some in lockable(rows):
        known: QuerySet[Any] = QuerySet(model, using=using)
        chosen = known.filter(pk__in=locked(some).values("pk"))
        written, with_claim = update_counting(chosen, entry.values(model), "state_claim")
        number, held = number + written, held + with_claim
    if number and _keys_are_needed(model, using, entry):
        raise _KeysNeeded
    if held:
        hint_revoked(model, using)
    return number
