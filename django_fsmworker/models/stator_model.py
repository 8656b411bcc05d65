"""The abstract model of a row with a life: its columns and its verbs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar, Self

import django
from django.db import models, router, transaction

from django_fsmworker import clock
from django_fsmworker.exceptions import UndeclaredTransition
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import door, unsaved
from django_fsmworker.models.announcing import announce_moved
from django_fsmworker.models.attributes import forget_changes, loading
from django_fsmworker.models.discovery import is_in_several_tables
from django_fsmworker.models.fields import (
    StateChangedField,
    StateClaimField,
    StateFailuresField,
    StateLeaseField,
    StateNextField,
)
from django_fsmworker.models.hinting import announce, announce_entered, announce_rows
from django_fsmworker.models.keys import has_key, key_of
from django_fsmworker.models.moving import move, to_write
from django_fsmworker.models.querysets import StatorQuerySet
from django_fsmworker.models.saving import (
    assigned,
    loaded_state,
    lock_or_refuse,
    present_columns,
    read_back,
    stored,
    write_assigned,
)


class StatorModel(models.Model):
    """Subclass it, declare ``state = StateField(Graph)``, and ``runstator`` runs its rows."""

    state_graph: ClassVar[type[StateGraph]]
    state: Any

    state_changed = StateChangedField()
    state_next = StateNextField()
    state_lease = StateLeaseField()
    state_claim = StateClaimField()
    state_failures = StateFailuresField()

    objects = StatorQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(
        self,
        *,
        force_insert: bool | tuple[Any, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """As Django's, except that it cannot move a row by accident.

        State columns are written only if they were assigned another value; then as a
        compare-and-set on the loaded state, which raises ``StaleState`` if somebody was faster.
        Saving a row that was deleted meanwhile raises, too: it does not come back.
        """
        alias = using or router.db_for_write(type(self), instance=self)
        names = None if update_fields is None else list(update_fields)
        options: dict[str, Any] = {"using": alias, "update_fields": names}
        if (
            self._state.adding
            or force_insert
            or not has_key(self)
            or self._state_is_elsewhere(alias)
        ):
            over = not force_insert and has_key(self)
            with loading(self):
                super().save(force_insert=force_insert, force_update=force_update, **options)
            forget_changes(self)
            if over and django.VERSION < (6, 0):  # Since 6.0 an UPDATE returns the state it kept.
                read_back(self, alias)
            announce_rows(type(self), [self], alias)
            return
        # A row of this database, loaded before: an UPDATE, or an error if it is gone.
        options["force_update"] = force_update or names is None
        if names == [] or not is_in_several_tables(type(self)):
            self._state_update(options)
            return
        with transaction.atomic(using=alias):
            lock_or_refuse(self, alias)
            self._state_update(options)

    def _state_is_elsewhere(self, alias: str) -> bool:
        """Whether this instance was not read from the row that is written in ``alias``.

        Loaded from a replica is loaded all the same: what counts is where the row is written.
        """
        own = self._state.db
        return alias != own and alias != router.db_for_write(type(self), instance=self)

    @property
    def state_age(self) -> float:
        """Seconds since the row entered its state, by this machine's clock."""
        age: timedelta = clock.now() - self.state_changed
        return age.total_seconds()

    @classmethod
    def state_get_ready(
        cls, number: int, lock_period: float, using: str | None = None
    ) -> list[Self]:
        """Claim up to ``number`` due rows for ``lock_period`` seconds and return them."""
        return door.engine().claim(cls, number, lock_period, using or router.db_for_write(cls))

    @classmethod
    def state_do_deletes(cls, using: str | None = None) -> int:
        """Delete a batch of the rows that outlived their state's ``delete_after``; how many."""
        return door.engine().expire(cls, using or router.db_for_write(cls))

    @classmethod
    def state_count_pending(cls, using: str | None = None) -> int:
        """How many rows are due and not held."""
        return StatorQuerySet(cls, using=using or router.db_for_read(cls)).due().count()

    def state_transition_check(self) -> State | None:
        """Run this row's check now; the state it moved to, or None.

        The write is fenced on state and token as loaded: if somebody was faster, nothing changes
        and None is returned.
        """
        return door.engine().check(self)

    def state_transition(self, state: State | str, *, force: bool = True) -> None:
        """Put the row into ``state``; whatever runs on it is superseded.

        ``force=False`` allows declared transitions only: anything else raises
        ``UndeclaredTransition``, and ``StaleState`` if the row moved since it was loaded.
        """
        target = self.state_graph.get(state)
        using = router.db_for_write(type(self), instance=self)
        if force:
            moved: list[tuple[Any, str | None]] = move(stored(self, using), target)
        else:
            moved = [(key_of(self), self._state_refuse_undeclared(target))]
            write_assigned(self, {"state": target.name}, using)
        read_back(self, using)
        announce_rows(type(self), [self], using)
        announce_moved(type(self), moved, target.name, using)

    def _state_refuse_undeclared(self, target: State) -> str:
        """The state the row was loaded in, if ``target`` is declared from there."""
        name = loaded_state(self) or str(self.state)
        source = self.state_graph.get(name)
        if target not in source.unguarded:
            allowed = ", ".join(sorted(map(str, source.unguarded))) or _none_from(source)
            raise UndeclaredTransition(
                f"{self._meta.label} {self.pk} cannot go from {source} to {target}; declared from "
                f"{source}: {allowed}. Declare {source}.transitions_to({target}) or force it."
            )
        return name

    @classmethod
    def state_transition_queryset(cls, queryset: models.QuerySet[Any], state: State | str) -> int:
        """Put every row of ``queryset`` into ``state``, whatever its own; how many there were."""
        target = cls.state_graph.get(state)
        rows = to_write(queryset)
        moved = move(rows, target)
        announce(cls, rows.db, target.first_due if moved else None)
        announce_entered(cls, rows.db, [target] if moved else [])
        announce_moved(cls, moved, target.name, rows.db)
        return len(moved)

    def _state_update(self, options: dict[str, Any]) -> None:
        """Save a row that is there: what was assigned to the state's columns first."""
        alias = options["using"]
        columns = assigned(self, options["update_fields"])
        if not columns:
            self._state_save_rest(options)
            return
        source = loaded_state(self)
        with transaction.atomic(using=alias):
            write_assigned(self, columns, alias)
            self._state_save_rest(options)
            read_back(self, alias)
            announce_rows(type(self), [self], alias)
            if "state" in columns:
                announce_moved(type(self), [(key_of(self), source)], self.state, alias)

    def _state_save_rest(self, options: dict[str, Any]) -> None:
        """Save the other columns; the state stays as this instance sees it, on every Django.

        (Django 6.0 reads columns that a save answered with an expression back into the instance.)
        """
        seen = {
            name: self.__dict__[name]
            for name in present_columns(type(self))
            if name in self.__dict__
        }
        with loading(self):
            super().save(**options)
        self.__dict__.update(seen)
        unsaved.saved(self, options["update_fields"])

    def refresh_from_db(  # type: ignore[override]
        self, using: str | None = None, fields: Iterable[str] | None = None, **kwargs: Any
    ) -> None:
        """As Django's; a state that this build does not know is loaded as it is."""
        with loading(self):
            super().refresh_from_db(using=using, fields=fields, **kwargs)
        forget_changes(self, None if fields is None else set(fields))


def _none_from(source: State) -> str:
    return "none: it is terminal" if source.terminal else "none without a guard"
