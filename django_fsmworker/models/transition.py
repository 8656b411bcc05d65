"""The change of one row's state by code: by ``save()``, ``state_move()``, ``state_transition()``.

A plain save never writes a state column: the fields answer ``column = column``. What was assigned
by hand is written first, as a compare-and-set on the state that was loaded. A forced change is
written whatever the state is. Each resolves the row's failures, hints to the runners and sends
``state_changed``.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.models import Q, QuerySet

from django_fsmworker.exceptions import StaleState, UndeclaredTransition
from django_fsmworker.graph import State
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
from django_fsmworker.models.forcing import Entry, Moved, force
from django_fsmworker.models.functions import (
    Unfailing,
    unleased,
    update_row,
)
from django_fsmworker.models.hints import hint_revoked, hint_rows
from django_fsmworker.models.keys import (
    declaring_model,
    has_key,
    key_of,
    row_key,
)
from django_fsmworker.models.resolving import resolve_failures
from django_fsmworker.models.telling import mover, send_state_changed, wake_events
from django_fsmworker.models.transition_log import (
    Logging,
    by_hand,
    write_logged,
)
from django_fsmworker.traces import current_trace

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
        if unfailing and not self.keep_failures:
            on_none = Unfailing(self.model._meta.label, row_key(self.key))
            condition &= Q(on_none, state_failures=0)
        if not self._move(target, condition, values, names, resolves=not unfailing):
            return False
        self.moved = [(self.key, source)]
        return True

    def _move(
        self, target: State, condition: Q, values: dict[str, Any], names: list[str], resolves: bool
    ) -> bool:
        """Write ``values``; whether the row is there and ``condition`` is true of it.

        In that transaction its failures are resolved, and the events made due that wait for it.
        """
        resolves = resolves and not self.keep_failures
        together: Any = nullcontext()
        if resolves or self.model.state_graph.triggers:
            together = transaction.atomic(using=self.using, savepoint=False)
        with together:
            self.read = self._write(target, condition, values, names)
            if self.read is None:
                return False
            if resolves:
                resolve_failures(self.model, [self.key], self.using)
            wake_events(self.model, [self.key], self.using)
        self.target = target
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
        self.moved = [(self.key, None)]
        return self._move(target, Q(), values, names, resolves=True)

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
        """Raise ``ValueError`` if state columns were assigned, since ``verb`` would drop them.

        So it does for an instance that was never saved.
        """
        if not has_key(self.instance):
            raise ValueError(f"{self.instance!r} has no primary key yet; save it before {verb}.")
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
