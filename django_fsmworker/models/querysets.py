"""The queryset of rows with a life: which are due, running, failing and so on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from asgiref.sync import sync_to_async
from django.db import models
from django.db.models import F

from django_fsmworker.graph import State
from django_fsmworker.graph.durations import Duration
from django_fsmworker.models.engine import engine
from django_fsmworker.models.entering import due_at_life_end
from django_fsmworker.models.evented_model import ManyEventsOptions
from django_fsmworker.models.fields import ENGINE_COLUMNS, LIFE_ENDS
from django_fsmworker.models.functions import DatabaseNow, leased, unleased
from django_fsmworker.models.hints import hint_rows
from django_fsmworker.models.operating import Cancel, Park, Retry, Unpark, operate

Row = TypeVar("Row", bound=models.Model)

# True to mypy alone, whose plugin derives the type of a manager from its queryset. Other checkers
# take the manager for the queryset, and so know its methods.
MYPY = False


class StatorQuerySet(models.QuerySet[Row]):
    """Rows by what they have to do: the base of querysets of your own.

    ``class OrderQuerySet(StatorQuerySet["Order"])``, then ``objects = OrderQuerySet.as_manager()``.
    ``due()``, ``running()`` and ``lapsed()`` go by the database's clock.
    """

    if TYPE_CHECKING and not MYPY:

        @classmethod
        def as_manager(cls) -> Self: ...

    def in_state(self, *states: State | str) -> Self:
        """Rows in any of ``states``, each a ``State`` or its name.

        ``UnknownState`` is raised for a name that the graph does not declare; rows that another
        build put into such a state are found with ``filter(state=…)``.
        """
        graph = self.model.state_graph  # type: ignore[attr-defined]
        return self.filter(state__in=[graph.get(state).name for state in states])

    def due(self) -> Self:
        """Rows whose ``state_next`` has come and that no lease holds: a claim may take them."""
        return self.filter(unleased(), state_next__lte=DatabaseNow())

    def running(self) -> Self:
        """Rows that a runner holds: claimed, with a lease that has not run out."""
        return self.filter(leased(), state_claim__isnull=False)

    def lapsed(self) -> Self:
        """Rows whose lease ran out before their attempt was settled: suspects."""
        return self.filter(state_lease__lte=DatabaseNow())

    def failing(self) -> Self:
        """Rows whose last attempt failed."""
        return self.filter(state_failures__gt=0)

    def parked(self) -> Self:
        """Rows that wait for somebody: they failed for good where they are, or were parked."""
        return self.filter(~models.Q(state_failures=0), state_next__isnull=True)

    def unknown_state(self) -> Self:
        """Rows in a state that the graph does not declare: no runner with this code runs them."""
        graph = self.model.state_graph  # type: ignore[attr-defined]
        return self.exclude(state__in=list(graph.states))

    def stranded(self) -> Self:
        """Rows whose check should run, with nothing due and no failure to explain it."""
        graph = self.model.state_graph  # type: ignore[attr-defined]
        checked = [state.name for state in graph.states.values() if state.checked]
        return self.filter(state__in=checked, state_next__isnull=True, state_failures=0)

    def swept(self) -> Self:
        """Rows in a state that has guards and no check: sweeps look at them without a due time."""
        graph = self.model.state_graph  # type: ignore[attr-defined]
        return self.in_state(*graph.swept_states)

    def oldest_due_first(self) -> Self:
        """Rows in the order in which a runner takes them; those without a due time come last."""
        return self.order_by(F("state_next").asc(nulls_last=True), "pk")

    def retry_now(self, *, by: Any = None, reason: str = "") -> int:
        """Make rows due now, with all their attempts: failing and parked ones, and those due later.

        Left out are rows that a runner holds, that are due already, or in whose state nothing is
        run. The state, and the time from which its timeout counts, stay. Returns the number.

        The rows are locked in the order of their keys and written in batches, each in a transaction
        of its own unless there is one. ``by`` and ``reason`` are for the log.
        """
        return operate(Retry(self.model, by, reason), self)

    retry_now.alters_data = True  # type: ignore[attr-defined]

    def park(self, reason: str, *, by: Any = None) -> int:
        """Keep rows from being run, and from timing out, until they are unparked or moved.

        What runs on them is ended. ``by`` and ``reason`` are for the log and the failure records.
        Returns the number of rows; those in states in which a runner has nothing to do are left
        out. In batches, as ``retry_now()``. ``ValueError`` is raised if ``reason`` is empty.
        """
        return operate(Park(self.model, by, reason), self)

    park.alters_data = True  # type: ignore[attr-defined]

    def unpark(self, *, by: Any = None, reason: str = "") -> int:
        """Make parked rows due again; returns their number.

        Those that were parked by hand have the failures that they had before, the others all their
        attempts. In batches, as ``retry_now()``.
        """
        return operate(Unpark(self.model, by, reason), self)

    unpark.alters_data = True  # type: ignore[attr-defined]

    def cancel_running(
        self, *, retry_in: Duration | None = None, by: Any = None, reason: str = ""
    ) -> int:
        """End the checks that run on rows, without a failure; returns the number of rows.

        They are due again ``retry_in`` seconds (or a ``timedelta``) later, by default after the
        ``retry_after`` of their state. In batches, as ``retry_now()``.
        """
        return operate(Cancel(self.model, by, reason, retry_in), self)

    cancel_running.alters_data = True  # type: ignore[attr-defined]

    async def aretry_now(self, *, by: Any = None, reason: str = "") -> int:
        """``retry_now()`` for async code."""
        return await sync_to_async(self.retry_now)(by=by, reason=reason)

    async def apark(self, reason: str, *, by: Any = None) -> int:
        """``park()`` for async code."""
        return await sync_to_async(self.park)(reason, by=by)

    async def aunpark(self, *, by: Any = None, reason: str = "") -> int:
        """``unpark()`` for async code."""
        return await sync_to_async(self.unpark)(by=by, reason=reason)

    async def acancel_running(
        self, *, retry_in: Duration | None = None, by: Any = None, reason: str = ""
    ) -> int:
        """``cancel_running()`` for async code."""
        return await sync_to_async(self.cancel_running)(retry_in=retry_in, by=by, reason=reason)

    def update(self, **kwargs: Any) -> int:
        """Update rows as Django does; ``UnknownState`` is raised for an undeclared ``state``.

        Rows that are given another ``state_life_ends`` are due by then, unless they are parked by
        hand, or their life is over already.
        """
        ends = kwargs.get(LIFE_ENDS)
        if ends is not None and "state_next" not in kwargs:
            kwargs["state_next"] = due_at_life_end(self.model, ends)
        return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]

    def state_submit(
        self,
        trigger: str,
        context: Mapping[str, Any] | None = None,
        **options: Unpack[ManyEventsOptions],
    ) -> int:
        """Write an event for each of these rows, which a runner delivers; the number of events.

        One statement reads the rows and writes the events, where the primary key is a whole number.
        The options (``fires_at``, ``delay``, ``max_attempts``, ``expires_in`` and ``by``) are those
        of ``django_fsmworker.events.Submission``; what is raised is that of ``submit_event()``.
        """
        return engine().submit_for(self, trigger, context, **options)

    state_submit.alters_data = True  # type: ignore[attr-defined]

    async def astate_submit(
        self,
        trigger: str,
        context: Mapping[str, Any] | None = None,
        **options: Unpack[ManyEventsOptions],
    ) -> int:
        """``state_submit()`` for async code."""
        return await sync_to_async(self.state_submit)(trigger, context, **options)

    def bulk_create(self, objs: Iterable[Row], *args: Any, **kwargs: Any) -> list[Row]:
        """Create rows as Django does, and hint to the runners that they are due.

        ``ValueError`` is raised if ``update_fields`` names a column of the engine: a conflict must
        not move a row that exists.
        """
        for name in kwargs.get("update_fields") or ():
            if name in ENGINE_COLUMNS:
                raise ValueError(
                    f"bulk_create() cannot write {name} of rows that exist: it knows no fence. "
                    f"Leave it out of update_fields."
                )
        rows = super().bulk_create(objs, *args, **kwargs)
        hint_rows(self.model, rows, self.db)
        return rows

    def bulk_update(self, objs: Iterable[Row], fields: Iterable[str], *args: Any, **kw: Any) -> int:
        """Update rows as Django does, in all columns but the engine's.

        ``ValueError`` is raised if ``fields`` names a column of the engine: a stale instance must
        not move a row.
        """
        names = list(fields)
        for name in names:
            if name == LIFE_ENDS:
                raise ValueError(
                    f"bulk_update() cannot write {name}: the rows would not be due by then. Use "
                    f"update() or save() instead."
                )
            if name in ENGINE_COLUMNS:
                raise ValueError(
                    f"bulk_update() cannot write {name}: it knows no fence. Use "
                    f"{self.model.__name__}.state_transition_queryset(queryset, state) instead."
                )
        return super().bulk_update(objs, names, *args, **kw)


if TYPE_CHECKING:

    class _Objects:
        def __get__(self, instance: None, owner: type[Row]) -> StatorQuerySet[Row]: ...

    class DefaultQuerySet(StatorQuerySet[Row]):
        """``objects`` of the models that declare none, as type checkers see it."""

        if not MYPY:

            @classmethod
            def as_manager(cls) -> _Objects: ...
else:
    DefaultQuerySet = StatorQuerySet
