"""The columns of a row with a life.

Migrations never mention these classes nor the graph: each deconstructs to Django's own field, so a
graph can be renamed, and this package removed, without touching a migration.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models.expressions import Combinable, DatabaseDefault
from django.db.models.fields import Field
from django.db.models.functions import Now
from django.utils import timezone

from django_fsmworker import clock
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models.attributes import StateAttribute, TrackedAttribute
from django_fsmworker.models.indexes import contribute_indexes

if TYPE_CHECKING:  # Django's fields take type arguments in the stubs only
    CharField = models.CharField[str | State | Combinable, str]
    DateTimeField = models.DateTimeField[datetime | Combinable | None, datetime | None]
    BigIntegerField = models.BigIntegerField[int | Combinable | None, int | None]
    SmallIntegerField = models.SmallIntegerField[int | Combinable, int]
else:
    CharField = models.CharField
    DateTimeField = models.DateTimeField
    BigIntegerField = models.BigIntegerField
    SmallIntegerField = models.SmallIntegerField


class _EngineColumn(Field):  # type: ignore[type-arg]
    """A column that the engine writes: ``save()`` leaves it alone, a copy starts afresh."""

    descriptor_class = TrackedAttribute
    plain: type[Field[Any, Any]]
    # What is inserted is worked out here: nothing has to be read back because the column has a
    # default in the database, which is for rows that plain SQL inserts.
    db_returning = False

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, f"django.db.models.{self.plain.__name__}", args, kwargs

    def clone(self) -> Any:
        _, _, args, kwargs = self.deconstruct()
        return self.plain(*args, **kwargs)

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        """The value of a new row; asked for twice a row, hence so plain."""
        if not add:
            return models.F(self.attname)
        data = model_instance.__dict__
        if model_instance._state.db is None:
            return data.get(self.attname)
        value = data[self.attname] = self.afresh(model_instance)
        return value

    def afresh(self, instance: Any) -> Any:
        """What a row copied from another, or inserted again, has instead of its old value."""
        return self.get_default()


class _WorkedOut(_EngineColumn):
    """One whose first value depends on the row."""

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        value = super().pre_save(model_instance, add)
        if add:
            value = model_instance.__dict__[self.attname] = self.fresh(model_instance, value)
        return value

    def fresh(self, instance: Any, value: Any) -> Any:
        """The value a new row starts with."""
        raise NotImplementedError


class _Moment(_EngineColumn, DateTimeField):
    """A point in time, nearly always one that this package has worked out, or none."""

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """As Django's, without asking again what such a value is; there are three in each row."""
        if value is None:
            return None
        if type(value) is datetime and value.tzinfo is not None:
            return connection.ops.adapt_datetimefield_value(value)
        return super().get_db_prep_value(value, connection, prepared)


class StateField(_WorkedOut, CharField):
    """The current state: declared on the concrete model, loads as a plain ``str``.

    Its graph gives choices, default and index. ``graph=None`` is what migrations see.
    """

    descriptor_class = StateAttribute
    plain = models.CharField

    def __init__(self, graph: type[StateGraph] | None = None, **kwargs: Any) -> None:
        self.graph = graph
        kwargs.setdefault("max_length", 100)
        if graph is not None:
            kwargs["choices"] = graph.choices
            kwargs["default"] = kwargs["db_default"] = graph.initial_state.name
            kwargs.setdefault("editable", False)
        super().__init__(**kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        if self.graph is not None:
            kwargs["choices"] = [(state, state) for state in self.graph.states]
        return name, path, args, kwargs

    def contribute_to_class(self, cls: Any, name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        if self.graph is not None:
            cls.state_graph = self.graph
            contribute_indexes(cls, self)

    def get_prep_value(self, value: Any) -> Any:
        if type(value) is str:
            return value
        return super().get_prep_value(str(value) if isinstance(value, State) else value)

    def afresh(self, instance: Any) -> Any:
        return instance.__dict__[self.attname]

    def fresh(self, instance: Any, value: Any) -> Any:
        if self.graph is None or (type(value) is str and value in self.graph.states):
            return value
        return self.graph.get(value).name


class StateChangedField(_Moment):
    """When the row entered its state."""

    plain = models.DateTimeField

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("default", timezone.now)
        kwargs.setdefault("db_default", Now())
        kwargs.setdefault("editable", False)
        super().__init__(**kwargs)

    def get_default(self) -> Any:
        return clock.now()


class StateNextField(_WorkedOut, _Moment):
    """When the row is next due; NULL while the runner has nothing to do.

    A new row honours its state's ``start_after``, unless a due time is given.
    """

    plain = models.DateTimeField

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("null", True)
        kwargs.setdefault("blank", True)
        kwargs.setdefault("db_default", Now())
        kwargs.setdefault("editable", False)
        super().__init__(**kwargs)

    def fresh(self, instance: Any, value: Any) -> Any:
        if not isinstance(value, DatabaseDefault):
            return value
        delay = type(instance).state_graph.get(instance.__dict__["state"]).first_due
        if not delay:  # usually 0
            return None if delay is None else clock.now()
        return clock.now() + timedelta(seconds=delay)


class StateLeaseField(_Moment):
    """Until when a claim holds the row. Never index it: the claim has to stay a HOT update."""

    plain = models.DateTimeField

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("null", True)
        kwargs.setdefault("blank", True)
        kwargs.setdefault("editable", False)
        super().__init__(**kwargs)


class StateClaimField(_EngineColumn, BigIntegerField):
    """The token of the claim that holds the row; NULL while it is free. Odd: a lease had lapsed."""

    plain = models.BigIntegerField

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("null", True)
        kwargs.setdefault("blank", True)
        kwargs.setdefault("editable", False)
        super().__init__(**kwargs)


class StateFailuresField(_EngineColumn, SmallIntegerField):
    """Failures in a row; saturates at ``MOST_FAILURES``.

    No ``Positive…`` field: to add its CHECK, PostgreSQL reads a table that it lets nobody else use.
    """

    plain = models.SmallIntegerField

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("default", 0)
        kwargs.setdefault("db_default", 0)
        kwargs.setdefault("editable", False)
        super().__init__(**kwargs)


class StateHistoryField(_WorkedOut, models.JSONField):
    """``[state, timestamp]`` pairs, oldest first; wanted by declaring it as ``state_history``."""

    plain = models.JSONField

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("default", list)
        kwargs.setdefault("db_default", [])
        kwargs.setdefault("editable", False)
        super().__init__(**kwargs)

    def fresh(self, instance: Any, value: Any) -> Any:
        return value or [[str(instance.state), clock.now().isoformat()]]


MOST_FAILURES = 32767
