"""A row as it is at one moment, with all that its explanation is made from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from django.db import DatabaseError, router
from django.db.models import QuerySet

from django_fsmworker.diagnosis.holding import Holders, Holding
from django_fsmworker.graph import State, Transition
from django_fsmworker.models.functions import DatabaseNow
from django_fsmworker.models.keys import declaring_model, key_of, records_of, stored
from django_fsmworker.models.records import FailureRecord
from django_fsmworker.store import Store, store_for


@dataclass(frozen=True)
class Situation:
    """The row, read just now, and the database's time of that."""

    row: Any
    now: datetime
    store: Store

    @classmethod
    def of(cls, instance: Any) -> Situation:
        """The situation of ``instance``; the model's ``DoesNotExist`` is raised if the row is gone.

        The row is read where it is written, since a replica may lag behind.
        """
        using = router.db_for_write(type(instance), instance=instance)
        found = stored(instance, using).annotate(fsm_now_=DatabaseNow()).get()
        return cls(found, found.fsm_now_.astimezone(UTC), store_for(using))

    @property
    def model(self) -> Any:
        """The model that declares the state."""
        return declaring_model(type(self.row))

    @property
    def key(self) -> Any:
        """The key of the row."""
        return key_of(self.row)

    @property
    def state(self) -> State | None:
        """The state; None if the graph does not declare it."""
        found: State | None = self.model.state_graph.states.get(self.row.state)
        return found

    @property
    def is_held(self) -> bool:
        """Whether a lease holds it."""
        return self.row.state_lease is not None and self.row.state_lease > self.now

    @property
    def is_due(self) -> bool:
        """Whether its due time has come."""
        return self.row.state_next is not None and self.row.state_next <= self.now

    @property
    def age(self) -> timedelta:
        """How long it has been in its state."""
        age: timedelta = self.now - self.row.state_changed
        return age

    @cached_property
    def failure(self) -> FailureRecord | None:
        """Its failure record, unless that is resolved."""
        records: QuerySet[FailureRecord] = QuerySet(FailureRecord, using=self.store.alias)
        return records.filter(**records_of(self.model, [self.key]), resolved=None).first()

    @cached_property
    def holding(self) -> Holding:
        """Who holds it, if somebody does."""
        return Holders(self.store.alias).of(self.row)

    def asked(self, guard: Transition) -> bool | DatabaseError:
        """Whether the guard is true of the row, or what the database says to that."""
        rows: QuerySet[Any] = QuerySet(self.model, using=self.store.alias)
        try:
            with self.store.inside():
                return rows.filter(pk=self.key).filter(guard.when).exists()
        except DatabaseError as error:
            return error
