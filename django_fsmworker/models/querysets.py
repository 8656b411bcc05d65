"""The words in which one asks for rows by their life."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from django.db import models
from django.db.models import F

from django_fsmworker.graph import State
from django_fsmworker.models.functions import DatabaseNow, unleased
from django_fsmworker.models.hinting import announce_rows
from django_fsmworker.models.saving import ENGINE_COLUMNS

Row = TypeVar("Row", bound=models.Model)


class StatorQuerySet(models.QuerySet[Row]):
    """Base it on this in managers of your own: ``objects = MyQuerySet.as_manager()``."""

    def in_state(self, *states: State | str) -> StatorQuerySet[Row]:
        """Rows in any of ``states``."""
        return self.filter(state__in=[str(state) for state in states])

    def due(self) -> StatorQuerySet[Row]:
        """Rows whose time has come and that no lease holds."""
        return self.filter(unleased(), state_next__lte=DatabaseNow())

    def running(self) -> StatorQuerySet[Row]:
        """Rows that a runner holds: claimed, with a lease that still lasts."""
        return self.filter(state_claim__isnull=False, state_lease__gt=DatabaseNow())

    def lapsed(self) -> StatorQuerySet[Row]:
        """Rows whose lease ran out before their attempt was settled: suspects."""
        return self.filter(state_lease__lte=DatabaseNow())

    def failing(self) -> StatorQuerySet[Row]:
        """Rows whose last attempt failed."""
        return self.filter(state_failures__gt=0)

    def stranded(self) -> StatorQuerySet[Row]:
        """Rows whose check should run, with nothing due and no failure to explain it."""
        graph = self.model.state_graph  # type: ignore[attr-defined]
        checked = [state.name for state in graph.states.values() if state.checked]
        return self.filter(state__in=checked, state_next__isnull=True, state_failures=0)

    def swept(self) -> StatorQuerySet[Row]:
        """Rows in a state that has guards and no check: sweeps look at them, without a due time."""
        graph = self.model.state_graph  # type: ignore[attr-defined]
        return self.in_state(*graph.swept_states)

    def oldest_due_first(self) -> StatorQuerySet[Row]:
        """In the order in which a runner takes them."""
        return self.order_by(F("state_next").asc(nulls_last=True), "pk")

    def bulk_create(self, objs: Iterable[Row], *args: Any, **kwargs: Any) -> list[Row]:
        """As Django's, except that a conflict must not move a row that is there."""
        for name in kwargs.get("update_fields") or ():
            if name in ENGINE_COLUMNS:
                raise ValueError(
                    f"bulk_create() cannot write {name} of rows that exist: it knows no fence. "
                    f"Leave it out of update_fields."
                )
        rows = super().bulk_create(objs, *args, **kwargs)
        announce_rows(self.model, rows, self.db)
        return rows

    def bulk_update(self, objs: Iterable[Row], fields: Iterable[str], *args: Any, **kw: Any) -> int:
        """As Django's, for all but the engine's columns: a stale instance must not move a row."""
        names = list(fields)
        for name in names:
            if name in ENGINE_COLUMNS:
                raise ValueError(
                    f"bulk_update() cannot write {name}: it knows no fence. Use "
                    f"{self.model.__name__}.state_transition_queryset(queryset, state) instead."
                )
        return super().bulk_update(objs, names, *args, **kw)
