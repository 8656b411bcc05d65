"""The abstract model of a row with a life: its columns and its verbs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import django
from asgiref.sync import sync_to_async
from django.db import models, router, transaction

from django_fsmworker import clock
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import unsaved
from django_fsmworker.models.contexts import context_of
from django_fsmworker.models.engine import engine
from django_fsmworker.models.entering import claimed_by_hand
from django_fsmworker.models.evented_model import EventedModel
from django_fsmworker.models.fields import (
    StateChangedField,
    StateClaimField,
    StateFailuresField,
    StateField,
    StateLeaseField,
    StateNextField,
    changes,
    forget_changes,
    loading,
    present_columns,
)
from django_fsmworker.models.forcing import force_all
from django_fsmworker.models.hints import hint_rows
from django_fsmworker.models.keys import has_key, is_in_several_tables, key_of, records_of
from django_fsmworker.models.moving import Move, Running
from django_fsmworker.models.offers import EventOffer, offers
from django_fsmworker.models.querysets import DefaultQuerySet, StatorQuerySet
from django_fsmworker.models.records import FailureRecord
from django_fsmworker.models.sending import Send
from django_fsmworker.models.transition import StateChange


class StatorModel(EventedModel):
    """A row whose life is a state graph: subclass it and declare ``state = StateField(Graph)``.

    ``runstator`` then claims the rows that are due, runs the check of their state and writes the
    next state. The columns below are written by the engine; read them as you like, and assign only
    ``state`` (or ``state_next``, to say when the row is next due).
    """

    state_graph: ClassVar[type[StateGraph]]
    """The graph, as given to the ``StateField``."""

    state_has_life: ClassVar[bool] = True
    """Marks the models with a life; a ``StateField`` that is copied elsewhere is a plain column."""

    state: StateField
    """The name of the current state; assign a ``State`` or a name, then save."""

    state_changed = StateChangedField()
    state_next = StateNextField()
    state_lease = StateLeaseField()
    state_claim = StateClaimField()
    state_failures = StateFailuresField()

    objects = DefaultQuerySet.as_manager()

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
        """Save as Django does, except that a save cannot move a row by accident.

        A state column is written only if another value than the loaded one was assigned to it. A
        state that was assigned is written as a compare-and-set on the loaded state, and raises
        ``StaleState`` if somebody was faster: then nothing is saved. A ``DatabaseError`` is raised
        if the row was deleted since it was loaded: it does not come back.

        The parameters are Django's.
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
                StateChange(self, alias).read_back()
            hint_rows(type(self), [self], alias)
            return
        # A row of this database, loaded before: an UPDATE, or an error if it is gone.
        options["force_update"] = force_update or names is None
        if names == [] or not is_in_several_tables(type(self)):
            self._state_update(options)
            return
        with transaction.atomic(using=alias):
            StateChange(self, alias).lock_or_refuse()
            self._state_update(options)

    def _state_is_elsewhere(self, alias: str) -> bool:
        """Whether this instance was not read from the row that is written in ``alias``.

        An instance loaded from a replica counts as read from the database that the row is written
        to.
        """
        own = self._state.db
        return alias != own and alias != router.db_for_write(type(self), instance=self)

    def _state_update(self, options: dict[str, Any]) -> None:
        """Save a row that is there: what was assigned to the state's columns first."""
        alias, names = options["using"], options["update_fields"]
        columns = {
            name: value for name, value in changes(self).items() if names is None or name in names
        }
        if not columns:
            self._state_save_rest(options)
            return
        change = StateChange(self, alias)
        with transaction.atomic(using=alias):
            change.compare_and_set(columns)
            self._state_save_rest(options)
            change.finish()

    def _state_save_rest(self, options: dict[str, Any]) -> None:
        """Save the other columns; the state stays as this instance sees it, on every Django.

        (Django 6.0 reads columns that a save answered with an expression back into the instance.)
        """
        data = self.__dict__
        seen = {name: data[name] for name in present_columns(type(self)) if name in data}
        with loading(self):
            super().save(**options)
        data.update(seen)
        if unsaved.SEEN in data:  # asked here: a save pays for nothing else that only DEBUG needs
            unsaved.saved(self, options["update_fields"])

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Self] | None = None,
    ) -> None:
        """Load the row again as Django does; a state that this build does not know is taken too.

        What was assigned and not saved is forgotten, of all ``fields`` or of those named.
        """
        with loading(self):
            super().refresh_from_db(using=using, fields=fields, from_queryset=from_queryset)
        forget_changes(self, None if fields is None else set(fields))

    @property
    def state_age(self) -> float:
        """Seconds since the row entered its state, by this machine's clock."""
        return (clock.now() - self.state_changed).total_seconds()

    @property
    def failure(self) -> FailureRecord | None:
        """The record of the row's failure, resolved or not; None if there is none.

        Each access asks the row's database.
        """
        using = self._state.db or router.db_for_read(type(self), instance=self)
        records: models.QuerySet[FailureRecord] = models.QuerySet(FailureRecord, using=using)
        return records.filter(**records_of(type(self), [key_of(self)])).first()

    @classmethod
    def state_get_ready(
        cls, number: int, lock_period: float, using: str | None = None
    ) -> list[Self]:
        """Claim up to ``number`` due rows for ``lock_period`` seconds and return them.

        No runner takes them meanwhile. The caller frees each by ``state_transition_check()`` or
        ``state_transition()``; a row that the caller leaves alone is free again when
        ``lock_period`` is over, and the next claim counts that as a lapsed lease. ``using`` is the
        alias of the database, by default the one that the routers write the model to. Raises
        ``ConfigurationError`` for a multi-table child, whose rows are claimed as its parent's.
        """
        alias = using or router.db_for_write(cls)
        return claimed_by_hand(engine().claim(cls, number, lock_period, alias))

    @classmethod
    def state_do_deletes(cls, using: str | None = None) -> int:
        """Delete a batch of the rows that outlived their state's ``delete_after``; the number.

        A batch is the setting ``DELETE_BATCH`` (500 rows by default) of each state that has
        ``delete_after``; 0 means that nothing is left. ``using`` is the alias of the database, by
        default the one that the routers write the model to. Raises ``ConfigurationError`` for a
        multi-table child, whose rows are deleted as its parent's.
        """
        return engine().expire(cls, using or router.db_for_write(cls))

    state_do_deletes.__func__.alters_data = True  # type: ignore[attr-defined]

    @classmethod
    def state_count_pending(cls, using: str | None = None) -> int:
        """The number of rows that are due and not held.

        ``using`` is the alias of the database, by default the one that the routers read the model
        from.
        """
        return StatorQuerySet(cls, using=using or router.db_for_read(cls)).due().count()

    def state_transition_check(self) -> State | None:
        """Run this row's check, or ask its guards, here and now; the ``State`` it moved to.

        None means that the row did not move: the check answered so, failed (which is recorded, not
        raised), or somebody was faster. The write is fenced on state and token as loaded, and the
        instance shows the row as it is afterwards.

        Raises ``SynchronousOnlyOperation`` on the thread of a running event loop if the graph has
        async checks: call it through ``sync_to_async()``. A database that refuses the write raises
        its ``DatabaseError``.
        """
        return engine().check(self)

    state_transition_check.alters_data = True  # type: ignore[attr-defined]

    def state_transition(
        self,
        state: State | str,
        *,
        force: bool = True,
        by: Any = None,
        reason: str = "",
        keep_failures: bool = False,
    ) -> None:
        """Put the row into ``state``, a ``State`` or its name; a check that runs is superseded.

        A check that runs is ended, and that of the new state begins when it has, not before. The
        row's failures are forgotten: also one that was held and is resumed has all its attempts.
        With ``keep_failures`` they are not: it has the attempts that it had left, and its failure
        stays on record.

        By default the row is moved whatever its state is. ``force=False`` allows declared
        transitions without a guard only: ``UndeclaredTransition`` is raised for any other, and
        ``StaleState`` if the row moved since it was loaded. A name that the graph does not declare
        raises ``UnknownState``. ``ValueError`` is raised if a state column was assigned and not
        saved. Other columns are not saved; ``state_move()`` writes them too.

        ``by`` and ``reason``, who moves the row and why, are for the signal ``state_changed`` and
        the transition log.
        """
        target = self.state_graph.get(state)
        using = router.db_for_write(type(self), instance=self)
        change = StateChange(self, using, by=by, reason=reason, keep_failures=keep_failures)
        if force:
            change.refuse_unsaved("state_transition()")
            change.force(target)
        else:
            change.refuse_undeclared(target)
            change.refuse_unsaved("state_transition()")
            change.compare_and_set({"state": target.name})
        change.finish()

    def state_move(
        self,
        state: State | str,
        *,
        only_from: State | str | Iterable[State | str] | None = None,
        set: Mapping[str, Any] | None = None,
        by: Any = None,
        reason: str = "",
        running: Running = "wait",
        wait: float = 5.0,
        keep_failures: bool = False,
    ) -> None:
        """Move the row to ``state`` by a declared transition, and write ``set`` with it.

        What counts is the state that the row has in the database, not the one that this instance
        has loaded: the move is written if a transition without a guard leads from there to
        ``state``. Then the instance shows the row as it is. Other columns are not saved. As by
        ``QuerySet.update()``, ``pre_save`` and ``post_save`` are not sent, and ``auto_now`` does
        nothing.

        Args:
            state: The ``State`` to move to, or its name.
            only_from: The only state, or states, that the row may be in; by default all from which
                the transition is declared.
            set: Values, or expressions, for other columns, written in the same statement (for a
                multi-table child's own columns, in the same transaction).
            by: Who moves the row; the signal ``state_changed`` and both logs get it.
            reason: Why; for the signal and the logs, too.
            running: What to do while a runner holds the row for its check: ``"wait"`` until it is
                free, ``"refuse"``, or ``"revoke"``, which moves it at once, so that what the check
                answers is dropped.
            wait: Most seconds to wait, 5 by default. In a transaction on SQLite, which would keep
                the runner from writing, it does not wait.
            keep_failures: Whether the count of failures and their record stay as they are. By
                default they are forgotten: a row that was held and is resumed has all its attempts.

        Raises:
            NotAllowed: The row was not moved; its ``reason`` says why: ``"source_state"``, or
                ``"running"``.
            UnknownState: The graph does not declare ``state``, or one of ``only_from``.
            ValueError: A state column was assigned and not saved, ``set`` names a column that
                cannot be set, or ``running`` is none of the three.
            ObjectDoesNotExist: The row is gone; it is the model's own ``DoesNotExist``.
        """
        move = Move(self, state, only_from, set, by, reason, running, wait, keep_failures)
        while (pause := move.attempt()) is not None:
            time.sleep(pause)

    async def astate_move(
        self,
        state: State | str,
        *,
        only_from: State | str | Iterable[State | str] | None = None,
        set: Mapping[str, Any] | None = None,
        by: Any = None,
        reason: str = "",
        running: Running = "wait",
        wait: float = 5.0,
        keep_failures: bool = False,
    ) -> None:
        """``state_move()`` for async code: it occupies no thread while it waits."""
        asked = (self, state, only_from, set, by, reason, running, wait, keep_failures)
        move = await sync_to_async(Move)(*asked)  # a deferred state is loaded
        while (pause := await sync_to_async(move.attempt)()) is not None:
            await asyncio.sleep(pause)

    def state_send(
        self,
        trigger: str,
        /,
        *,
        by: Any = None,
        reason: str = "",
        wait: float = 5.0,
        context: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> State:
        """Send the row an event, now; the ``State`` it is in afterwards.

        The row is locked and loaded, and the transition that its graph declares for the event in
        the row's state is taken: permission, condition, action and the write are one transaction,
        the caller's or one of its own. Then the instance shows the row as it is; what was assigned
        to it and not saved is forgotten. If anything is raised, nothing is written, and the
        instance stays as it is.

        The action gets the row as another instance. What it assigns to that is saved.

        Args:
            trigger: The name of the event.
            by: Who sends it: a user, whose permissions count, or a program, by its name as a
                ``str``. None, the default, is the program itself. The signal ``state_changed`` and
                the log get it.
            reason: Why; for the signal and the log, too.
            wait: Most seconds to wait for a check that is running, 5 by default, unless the event
                interrupts it. In a transaction on SQLite, which would keep the runner from writing,
                it does not wait.
            context: What the condition and the action find in ``event.context``, where names would
                clash with the arguments above.
            more: The same, as keyword arguments.

        Raises:
            NotAllowed: The row does not take the event; its ``reason`` says why.
            ValueError: A state column was assigned and not saved, or the action assigned the state
                or moved the row itself.
            TypeError: ``by`` is neither a user nor the name of a program, or has no permissions of
                Django's where one is asked for; or ``context`` is no mapping.
            ObjectDoesNotExist: The row is gone; it is the model's own ``DoesNotExist``.
        """
        send = Send(self, trigger, {**context_of(trigger, context), **more}, by, reason, wait)
        while (pause := send.attempt()) is not None:
            time.sleep(pause)
        return send.state

    async def astate_send(
        self,
        trigger: str,
        /,
        *,
        by: Any = None,
        reason: str = "",
        wait: float = 5.0,
        context: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> State:
        """``state_send()`` for async code: it occupies no thread while it waits."""
        asked = (self, trigger, {**context_of(trigger, context), **more}, by, reason, wait)
        send = await sync_to_async(Send)(*asked)
        while (pause := await sync_to_async(send.attempt)()) is not None:
            await asyncio.sleep(pause)
        return send.state

    def state_events(self, user: Any = None) -> list[EventOffer]:
        """What the row takes in the state that it has in the database, in order of declaration.

        Each event is there, whether it is allowed or not: an ``EventOffer`` says why it would be
        refused. Conditions are asked without a ``context``. A check that is running counts for
        nothing, as ``state_send()`` waits for it.

        ``user`` is who would send the events, as ``by=`` of ``state_send()``; permissions do not
        apply to None, the program itself. Raises ``ObjectDoesNotExist`` if the row is gone.
        """
        return offers(self, user)

    async def astate_events(self, user: Any = None) -> list[EventOffer]:
        """``state_events()`` for async code."""
        return await sync_to_async(self.state_events)(user)

    async def astate_transition(
        self,
        state: State | str,
        *,
        force: bool = True,
        by: Any = None,
        reason: str = "",
        keep_failures: bool = False,
    ) -> None:
        """``state_transition()`` for async code."""
        move = sync_to_async(self.state_transition)
        await move(state, force=force, by=by, reason=reason, keep_failures=keep_failures)

    async def astate_transition_check(self) -> State | None:
        """``state_transition_check()`` for async code."""
        return await sync_to_async(self.state_transition_check)()

    @classmethod
    async def astate_transition_queryset(
        cls,
        queryset: models.QuerySet[Any],
        state: State | str,
        *,
        by: Any = None,
        reason: str = "",
        keep_failures: bool = False,
    ) -> int:
        """``state_transition_queryset()`` for async code."""
        move = sync_to_async(cls.state_transition_queryset)
        return await move(queryset, state, by=by, reason=reason, keep_failures=keep_failures)

    @classmethod
    async def astate_get_ready(
        cls, number: int, lock_period: float, using: str | None = None
    ) -> list[Self]:
        """``state_get_ready()`` for async code."""
        return await sync_to_async(cls.state_get_ready)(number, lock_period, using)

    @classmethod
    async def astate_do_deletes(cls, using: str | None = None) -> int:
        """``state_do_deletes()`` for async code."""
        return await sync_to_async(cls.state_do_deletes)(using)

    @classmethod
    async def astate_count_pending(cls, using: str | None = None) -> int:
        """``state_count_pending()`` for async code."""
        return await sync_to_async(cls.state_count_pending)(using)

    @classmethod
    def state_transition_queryset(
        cls,
        queryset: models.QuerySet[Any],
        state: State | str,
        *,
        by: Any = None,
        reason: str = "",
        keep_failures: bool = False,
    ) -> int:
        """Put every row of ``queryset`` into ``state``, whatever its own; the number of rows.

        What runs on a row is ended, and its failures are forgotten or kept, as for
        ``state_transition()``.

        ``state`` is a ``State`` or its name; ``UnknownState`` is raised if the graph does not
        declare it. The rows are locked in the order of their keys and written in one transaction.
        ``by`` and ``reason``, who moves them and why, are for the signal ``state_changed`` and the
        transition log.
        """
        target = cls.state_graph.get(state)
        return force_all(queryset, target, by, reason, keep_failures=keep_failures)
