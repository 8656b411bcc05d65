"""A change of state by code: by ``save()``, ``state_move()``, ``state_transition()`` and
``state_transition_queryset()``.

A plain save never writes a state column: the fields answer ``column = column``. What was assigned
by hand is written first, as a compare-and-set on the state that was loaded. A forced change is
written whatever the state is. Each resolves the row's failures, hints to the runners and sends
``state_changed``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.models import Model, Q, QuerySet

from django_fsmworker import clock
from django_fsmworker.exceptions import StaleState, UndeclaredTransition
from django_fsmworker.graph import State
from django_fsmworker.models.engine import engine
from django_fsmworker.models.entering import (
    due_at_life_end,
    entering,
    note_move,
    own_claim,
)
from django_fsmworker.models.fields import (
    LIFE_ENDS,
    as_loaded,
    changes,
    forget_changes,
    loading,
    present_columns,
)
from django_fsmworker.models.functions import (
    Unfailing,
    known_dialect,
    unleased,
    update_counting,
    update_row,
)
from django_fsmworker.models.hints import hint_due, hint_entered, hint_revoked, hint_rows
from django_fsmworker.models.keys import (
    MOST_KEYS,
    declaring_model,
    is_composite,
    key_of,
    portions,
    records_of,
    row_key,
    with_keys,
)
from django_fsmworker.models.locking import lockable, locked, patiently
from django_fsmworker.models.records import FailureRecord
from django_fsmworker.models.telling import mover, send_state_changed
from django_fsmworker.models.transition_log import (
    Logging,
    by_hand,
    log_locked,
    logs_transitions,
    write_logged,
)
from django_fsmworker.signals import state_changed
from django_fsmworker.traces import current_trace

Moved = list[tuple[Any, str | None]]
"""The key of each row that was moved, and the state it was in (None: it was not loaded)."""

# Where no more rows of a model are failing, they are read, and compared with those that are moved.
MOST_COMPARED = 1_000

# What only a claim writes.
OF_A_CLAIM = ("state_lease", "state_claim")


class StateChange:
    """A change of one instance's row in the database ``using``.

    The order is: one or no write (``compare_and_set``, ``force`` or ``enter``), then ``finish``.
    ``cause``, ``by``, ``reason`` and ``trigger`` are what the signal ``state_changed`` tells, and
    what the transition log keeps: each write logs itself. With ``keep_failures`` the row's
    failures are not forgotten.
    """

    def __init__(
        self,
        instance: Any,
        using: str,
        cause: str = "forced",
        by: Any = None,
        reason: str = "",
        trigger: str | None = None,
        *,
        keep_failures: bool = False,
    ) -> None:
        self.instance = instance
        self.using = using
        self.cause, self.trigger = cause, trigger
        self.by, self.reason = mover(by, reason)
        self.keep_failures = keep_failures
        self.model: Any = declaring_model(type(instance))
        self.key = key_of(instance)
        self.loaded_state = loaded_state(instance)
        self.own_claim = own_claim(instance)
        self.target: State | None = None
        self.moved: Moved = []
        self.read: dict[str, Any] | None = None

    @property
    def row(self) -> QuerySet[Any]:
        """The row that has the state."""
        rows: QuerySet[Any] = QuerySet(self.model, using=self.using)
        return rows.filter(pk=self.key)

    @property
    def seems_unfailing(self) -> bool:
        """Whether the row had no failure when it was loaded."""
        failures: int = self.instance.__dict__.get("state_failures", 0)
        return failures == 0

    def enter(
        self,
        target: State,
        source: str,
        columns: dict[str, Any] | None = None,
        *,
        only_unleased: bool = False,
        unfailing: bool = False,
    ) -> bool:
        """Move the row from ``source`` to ``target``; whether it moved.

        It does not if it is in another state, or, with ``only_unleased``, held by a runner.
        ``columns`` are written with it. An ``unfailing`` row is one without a failure on record:
        to move it takes one statement, because nothing has to be resolved.
        """
        columns, condition = columns or {}, Q(state=source)
        if only_unleased:
            condition &= unleased()
        entered = self._entering(target, columns, unleased=only_unleased)
        # In this order: MySQL takes the new value of each column for what is assigned after it.
        values = columns | {name: entered[name] for name in entered if name not in columns}
        names = list(dict.fromkeys([*present_columns(type(self.instance)), *columns]))
        if self.keep_failures:
            self.read = self._write(target, condition, values, names)
        elif unfailing:
            on_none = Unfailing(self.model._meta.label, row_key(self.key))
            condition &= Q(on_none, state_failures=0)
            self.read = self._write(target, condition, values, names)
        else:
            with transaction.atomic(using=self.using, savepoint=False):
                self.read = self._write(target, condition, values, names)
                if self.read is not None:
                    resolve_failures(self.model, [self.key], self.using)
        if self.read is None:
            return False
        self.target, self.moved = target, [(self.key, source)]
        return True

    def _entering(
        self, target: State, columns: dict[str, Any], *, unleased: bool = False
    ) -> dict[str, Any]:
        return entering(
            self.model,
            target,
            self.own_claim,
            keep_failures=self.keep_failures,
            unleased=unleased,
            life_ends=columns.get(LIFE_ENDS),
            trace=current_trace,
        )

    def _logging(self, target: State) -> Logging:
        return by_hand(target, self.cause, self.by, self.reason, self.trigger or "")

    def _write(
        self, target: State, condition: Q, values: dict[str, Any], names: list[str]
    ) -> dict[str, Any] | None:
        """Write ``values`` if ``condition`` is true of the row, and log that, if there is a log."""
        if not self.model.log_transitions:
            return update_row(self.row, condition, values, names)
        return write_logged(self.row, condition, values, names, self._logging(target)(self.key))

    def compare_and_set(self, columns: dict[str, Any]) -> None:
        """Write ``columns`` if the row is still in the state it was loaded in.

        Raises ``StaleState`` if it is not, and ``ValueError`` if a claim is among ``columns``, as
        in a copy of the row from another time. A row that is gone is left to ``save()``'s own
        error.
        """
        for name in OF_A_CLAIM:
            if name in columns:
                raise ValueError(
                    f"{name} of {self.instance._meta.label} {self.instance.pk} was assigned, which "
                    f"only a claim writes; nothing was saved. Leave it out of what is imported or "
                    f"copied."
                )
        if self._set(columns) or not self.row.exists():
            return
        raise StaleState(
            f"{self.instance._meta.label} {self.instance.pk} is no longer in the state "
            f"{self.loaded_state!r} it was loaded in; nothing was saved. Load it again with "
            f"refresh_from_db() and decide anew."
        )

    def _set(self, columns: dict[str, Any]) -> bool:
        """Write ``columns`` on the condition of the loaded state; whether that was done."""
        loaded = self.loaded_state
        if "state" not in columns:
            fenced = self.row if loaded is None else self.row.filter(state=loaded)
            ends = columns.get(LIFE_ENDS)
            if ends is not None and "state_next" not in columns:
                columns = columns | {"state_next": due_at_life_end(self.model, ends)}
            return bool(fenced.update(**columns))
        target = self.model.state_graph.get(columns["state"])
        if loaded is not None:
            if self.seems_unfailing and self.enter(target, loaded, columns, unfailing=True):
                return True
            return self.enter(target, loaded, columns)
        values = self._entering(target, columns) | columns
        names = [*present_columns(type(self.instance))]
        self.read = self._write(target, Q(), values, names)
        if self.read is None:
            return False
        self.target, self.moved = target, [(self.key, None)]
        if not self.keep_failures:
            resolve_failures(self.model, [self.key], self.using)
        return True

    def force(self, target: State) -> None:
        """Put the row into ``target``, whatever its state."""
        note_move(self.instance)  # before anybody can hear of it
        source = self.loaded_state
        # Usually the row is where it was seen last, and one statement is enough.
        if source is None or not (
            (self.seems_unfailing or self.keep_failures)
            and self.enter(target, source, unfailing=True)
        ):
            logging = self._logging(target)
            entry = Entry(target, logging, self.own_claim, self.keep_failures)
            self.target, (_, self.moved) = target, force(self.row, entry)

    def refuse_unsaved(self, verb: str) -> None:
        """Raise ``ValueError`` if state columns were assigned, since ``verb`` would drop them."""
        names = sorted(changes(self.instance))
        if names:
            raise ValueError(
                f"{self.instance._meta.label} {self.instance.pk} has unsaved values of "
                f"{', '.join(names)}, which {verb} would drop; save() them, or forget them with "
                f"refresh_from_db(), before the call."
            )

    def refuse_undeclared(self, target: State) -> None:
        """Raise ``UndeclaredTransition`` unless ``target`` is declared from the loaded state."""
        if self.loaded_state is None:
            self.loaded_state = str(self.instance.state)
        source = self.instance.state_graph.get(self.loaded_state)
        if target not in source.unguarded:
            none = "none: it is terminal" if source.terminal else "none without a guard or an event"
            allowed = ", ".join(sorted(map(str, source.unguarded))) or none
            raise UndeclaredTransition(
                f"{self.instance._meta.label} {self.instance.pk} cannot go from {source} to "
                f"{target}; declared from {source}: {allowed}. Declare "
                f"{source}.transitions_to({target}) or force it."
            )

    def finish(self) -> None:
        """Give the row to the instance as it is now; hint and signal after the commit."""
        self.read_back()
        hint_rows(self.model, [self.instance], self.using)
        if self.target is not None:
            note_move(self.instance)
            wake_events(self.model, [self.key], self.using)
            if self.instance.__dict__["state_lease"] is not None:
                hint_revoked(self.model, self.using)
            send_state_changed(
                self.model,
                self.moved,
                self.target.name,
                self.using,
                self.cause,
                by=self.by,
                reason=self.reason,
                trigger=self.trigger,
            )

    def read_back(self) -> None:
        """Give the instance the columns that the write returned, or the state's as they are now."""
        found, names = self.read, present_columns(type(self.instance))
        if found is None:
            found = self.row.values(*names).get()
        data = self.instance.__dict__
        with loading(self.instance):
            for name, value in found.items():
                if name in names:
                    data[name] = value
                else:  # a relation forgets the object that it had loaded
                    setattr(self.instance, name, value)
        forget_changes(self.instance)

    def lock_or_refuse(self) -> None:
        """Lock a row that is in several tables, or raise ``DatabaseError`` if it is gone.

        Django inserts what it does not find in a parent's table, and the row would be there again.
        """
        features = connections[self.using].features
        row = self.row.select_for_update(no_key=features.has_select_for_no_key_update)
        if not row.values_list("pk"):
            raise DatabaseError(
                f"{self.instance._meta.label} {self.instance.pk} was deleted since it was loaded; "
                f"nothing was saved."
            )


def loaded_state(instance: Any) -> str | None:
    """The state the row was loaded in; None if it was deferred."""
    try:
        return str(as_loaded(instance, "state"))
    except KeyError:
        return None


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
    written: Any = rows.all()
    written._for_write = True
    rows = rows.using(written.db)
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
    if _can_write_at_once(rows) and (entry.keep_failures or not _on_record(model, using).exists()):
        try:
            with transaction.atomic(using=using):
                return _write_at_once(rows, entry), []
        except _FailureNoted:
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
            _resolve_all(model, keys, using)
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
        and not model.state_graph.triggers  # events may wait for them, by their keys
        and not logs_transitions(model)
    )


class _FailureNoted(Exception):
    """A runner has just noted a failure of the model: keys are needed to tell whose it is."""


def _write_at_once(rows: QuerySet[Any], entry: Entry) -> int:
    """Lock and write ``rows``, none of which has failed; the number of rows."""
    model, using = declaring_model(rows.model), rows.db
    number = held = 0
    for some in lockable(rows):
        known: QuerySet[Any] = QuerySet(model, using=using)
        chosen = known.filter(pk__in=locked(some).values("pk"))
        written, with_claim = update_counting(chosen, entry.values(model), "state_claim")
        number, held = number + written, held + with_claim
    if number and not entry.keep_failures and _on_record(model, using).exists():
        raise _FailureNoted
    if held:
        hint_revoked(model, using)
    return number


def _on_record(model: type[Model], using: str) -> QuerySet[FailureRecord]:
    """The records of all failures of ``model`` that are not resolved."""
    return FailureRecord.objects.using(using).filter(model=model._meta.label, resolved=None)


def _resolve_all(model: type[Model], keys: list[Any], using: str) -> None:
    """Resolve the failures of many rows, of which usually few have failed."""
    if len(keys) > MOST_COMPARED:
        names = _on_record(model, using).values_list("row", flat=True)[: MOST_COMPARED + 1]
        failing = set(names)
        if len(failing) <= MOST_COMPARED:
            keys = [key for key in keys if row_key(key) in failing] if failing else []
    resolve_failures(model, keys, using)


def wake_events(model: Any, keys: list[Any], using: str) -> None:
    """Make the events due that these rows did not take before they moved, if there can be any."""
    if model.state_graph.triggers:
        engine().wake_events(model, keys, using)


def unresolved(model: type[Model], keys: list[Any], using: str) -> QuerySet[FailureRecord]:
    """The failure records of these rows of ``model`` that are not resolved."""
    return FailureRecord.objects.using(using).filter(**records_of(model, keys), resolved=None)


def resolve_failures(model: type[Model], keys: list[Any], using: str) -> None:
    """Mark the failure records of these rows of ``model`` resolved, and forget their deaths."""
    for some in portions(keys, MOST_KEYS):
        unresolved(model, some, using).update(resolved=clock.now(), deaths=0)
