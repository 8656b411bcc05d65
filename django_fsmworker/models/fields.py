"""The columns of a row with a life, and what was assigned to them since the row was loaded.

Migrations never mention these classes nor the graph: each deconstructs to Django's own field, so a
graph can be renamed, and this package removed, without touching a migration.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models
from django.db.models.expressions import Combinable, DatabaseDefault
from django.db.models.fields import Field
from django.db.models.functions import Now
from django.db.models.query_utils import DeferredAttribute
from django.utils import timezone

from django_fsmworker import clock
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models.indexes import contribute_indexes
from django_fsmworker.traces import LONGEST, current_trace

if TYPE_CHECKING:  # Django's fields take type arguments in the stubs only
    CharField = models.CharField[str | State | Combinable, str]
    DateTimeField = models.DateTimeField[str | datetime | Combinable, datetime]
    NullableDateTimeField = models.DateTimeField[
        str | datetime | Combinable | None, datetime | None
    ]
    BigIntegerField = models.BigIntegerField[int | Combinable | None, int | None]
    SmallIntegerField = models.SmallIntegerField[int | Combinable, int]
    JSONField = models.JSONField[list[list[str]] | Combinable, list[list[str]]]
else:
    CharField = models.CharField
    DateTimeField = NullableDateTimeField = models.DateTimeField
    BigIntegerField = models.BigIntegerField
    SmallIntegerField = models.SmallIntegerField
    JSONField = models.JSONField


def has_life(model: Any) -> bool:
    """Whether ``model`` is a subclass of ``StatorModel``: no other has a life."""
    return bool(getattr(model, "state_has_life", False))


# Keys in an instance's dictionary: what assigned columns had been, and the ``loading`` under way.
_BEFORE = "_state_before"
_LOADING = "_state_loading"


class TrackedAttribute(DeferredAttribute):
    """The attribute of a column that remembers the loaded value when another is assigned.

    Loading costs nothing extra. An assignment to a deferred column loads it: a save compares the
    new value with that.
    """

    def __init__(self, field: Any) -> None:
        super().__init__(field)
        self._name: str = field.attname

    def __set__(self, instance: Any, value: Any) -> None:
        data, name = instance.__dict__, self._name
        if name not in data:
            if instance._state.adding or _LOADING in data:
                data[name] = value
                return
            self.__get__(instance)
        # A new dictionary: a copy of the instance shares the old one.
        data[_BEFORE] = {name: data[name]} | data.get(_BEFORE, {})
        data[name] = value

    def fetch_many(self, instances: Any) -> None:
        """Django 6.1: load a deferred value for all instances of a queryset at once."""
        with ExitStack() as stack:
            for instance in instances:
                stack.enter_context(loading(instance))
            super().fetch_many(instances)


class StateAttribute(TrackedAttribute):
    """The attribute of a ``StateField``: a plain ``str`` that refuses undeclared names.

    ``UnknownState`` is raised when such a name is assigned. What is loaded is taken as it is: a row
    may be in a state that this build does not know.
    """

    def __set__(self, instance: Any, value: Any) -> None:
        data, name = instance.__dict__, self._name
        if name not in data and instance._state.adding:  # what a new row begins with
            data[name] = value.name if isinstance(value, State) else value
            return
        if _LOADING not in data:
            graph: Any = getattr(self.field, "graph", None)
            known = not isinstance(value, State) and value == data.get(name)
            if graph is not None and not known:
                value = graph.get(value)
        super().__set__(instance, value.name if isinstance(value, State) else value)


class _EngineColumn:
    """A column that the engine writes: ``save()`` leaves it alone, a copy starts afresh.

    A mixin before Django's own field, whose type is the one that type checkers see.
    """

    attname: str
    descriptor_class: Any = TrackedAttribute
    plain: type[Field[Any, Any]]
    options: ClassVar[dict[str, Any]]
    # What is inserted is worked out here: nothing has to be read back because the column has a
    # default in the database, which is for rows that plain SQL inserts.
    db_returning = False

    def __init__(self, **kwargs: Any) -> None:
        field: Any = super()
        field.__init__(**{"editable": False, **self.options, **kwargs})

    def deconstruct(self) -> Any:
        field: Any = super()
        name, _, args, kwargs = field.deconstruct()
        kwargs.pop("serialize", None)
        if kwargs.get("default", True) is None:
            del kwargs["default"]
        return name, f"django.db.models.{self.plain.__name__}", args, kwargs

    def clone(self) -> Any:
        _, _, args, kwargs = self.deconstruct()
        return self.plain(*args, **kwargs)

    def contribute_to_class(
        self, cls: Any, name: str, private_only: bool = False, **options: Any
    ) -> None:
        """Become a column of ``cls``; of a concrete model without a life, a plain one.

        A library that copies fields to a model of its own (of history, of an archive) copies values
        that were once a row's state. That copy is nobody's job.
        """
        if cls._meta.abstract or has_life(cls):
            field: Any = super()
            field.contribute_to_class(cls, name, private_only=private_only)
            return
        plain, own = self.clone(), vars(self)
        plain.creation_counter = own["creation_counter"]
        plain.contribute_to_class(cls, name, private_only=private_only)

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        """The value to insert, or ``column = column`` for an update; it is called twice a row."""
        if not add:
            return models.F(self.attname)
        data = model_instance.__dict__
        if model_instance._state.db is None:
            return data.get(self.attname)
        value = data[self.attname] = self.afresh(model_instance)
        return value

    def afresh(self, instance: Any) -> Any:
        """The value of a row that is copied from another, or inserted again."""
        field: Any = self
        return field.get_default()


class _WorkedOut(_EngineColumn):
    """An engine column whose first value depends on the row."""

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        value = super().pre_save(model_instance, add)
        if add:
            value = model_instance.__dict__[self.attname] = self.fresh(model_instance, value)
        return value

    def fresh(self, instance: Any, value: Any) -> Any:
        """The value a new row starts with."""
        raise NotImplementedError


class _Moment(_EngineColumn):
    """An engine column with a point in time, or none."""

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Adapt ``value`` as Django does, only faster for aware datetimes: each row has three."""
        if value is None:
            return None
        if type(value) is datetime and value.tzinfo is not None:
            return connection.ops.adapt_datetimefield_value(value)
        field: Any = super()
        return field.get_db_prep_value(value, connection, prepared)


class StateField(_WorkedOut, CharField):
    """The current state: declared on the concrete model, loads as a plain ``str``.

    ``graph`` is the ``StateGraph`` whose states the rows have; it gives choices, default and
    indexes. ``None`` is what migrations see. The column takes names of up to ``max_length``
    characters, by default 100; other options are those of Django's ``CharField``.

    A ``State`` or its name may be assigned. A name that the graph does not declare raises
    ``UnknownState`` at once. The graph decides what a row begins with, and a row is always in some
    state: ``TypeError`` is raised for ``default``, ``db_default``, ``choices`` and ``null``.
    """

    descriptor_class = StateAttribute
    plain = models.CharField
    options = {"max_length": 100}

    def __init__(self, graph: type[StateGraph] | None = None, **kwargs: Any) -> None:
        self.graph = graph
        if graph is None:
            kwargs.setdefault("editable", True)
        else:
            _refuse_options(graph, kwargs)
            kwargs["choices"] = graph.choices
            kwargs["default"] = kwargs["db_default"] = graph.initial_state.name
        super().__init__(**kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        if self.graph is not None:
            kwargs["choices"] = [(state, state) for state in self.graph.states]
        return name, path, args, kwargs

    def contribute_to_class(
        self, cls: Any, name: str, private_only: bool = False, **options: Any
    ) -> None:
        super().contribute_to_class(cls, name, private_only=private_only)
        if self.graph is not None and has_life(cls):
            cls.state_graph = self.graph
            contribute_indexes(cls, self)

    def get_prep_value(self, value: Any) -> Any:
        if type(value) is str:
            return value
        return super().get_prep_value(str(value) if isinstance(value, State) else value)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        """Refuse a name that the graph does not declare: in ``update()``, by whichever manager."""
        fresh = self.fresh(None, value) if isinstance(value, State | str) else value
        return super().get_db_prep_save(fresh, connection)

    def afresh(self, instance: Any) -> Any:
        return instance.__dict__[self.attname]

    def fresh(self, instance: Any, value: Any) -> Any:
        if self.graph is None or (type(value) is str and value in self.graph.states):
            return value
        return self.graph.get(value).name


def _refuse_options(graph: Any, options: dict[str, Any]) -> None:
    if not (isinstance(graph, type) and issubclass(graph, StateGraph)):
        raise TypeError(f"StateField takes a StateGraph, the class itself, not {graph!r}.")
    for name in ("default", "db_default", "choices"):
        if name in options:
            raise TypeError(
                f"StateField takes no {name}, because {graph.__name__} has it: new rows begin in "
                f"{graph.initial_state}. Take {name} out, or mark another state with "
                f"force_initial=True."
            )
    if options.get("null"):
        raise TypeError(
            f"StateField takes no null=True, because a row without a state would have no life. "
            f"Take it out, and give {graph.__name__} a manual state for rows that rest."
        )


class StateChangedField(_Moment, DateTimeField):
    """When the row entered its state; by default, now."""

    plain = models.DateTimeField
    options = {"default": timezone.now, "db_default": Now()}

    def get_default(self) -> Any:
        return clock.now()


class StateNextField(_WorkedOut, _Moment, NullableDateTimeField):
    """When the row is next due; NULL while the runner has nothing to do.

    By default a new row is due ``start_after`` seconds after it is created, or never in a manual or
    terminal state without a timeout.
    """

    plain = models.DateTimeField
    options = {"null": True, "blank": True, "db_default": Now()}

    def fresh(self, instance: Any, value: Any) -> Any:
        if not isinstance(value, DatabaseDefault) and value is not self.db_default:
            return value
        state = type(instance).state_graph.get(instance.__dict__["state"])
        due = _due_in(state.first_due)
        if state.lifetime_state is None:
            return due
        ends = new_life_ends(instance)
        return ends if due is None or (ends is not None and ends < due) else due


def _due_in(delay: float | None) -> datetime | None:
    if not delay:  # usually 0
        return None if delay is None else clock.now()
    return clock.now() + timedelta(seconds=delay)


class StateLeaseField(_Moment, NullableDateTimeField):
    """When the claim that holds the row ends; NULL without one.

    Never index it: on PostgreSQL a claim has to stay a HOT update.
    """

    plain = models.DateTimeField
    # A default, so that factories which fill optional columns leave it empty; and in no dump.
    options = {"null": True, "blank": True, "default": None, "serialize": False}


class StateClaimField(_EngineColumn, BigIntegerField):
    """The token of the claim that holds the row; NULL while the row is free.

    An odd token belongs to a claim that took the row over from a lapsed lease.
    """

    plain = models.BigIntegerField
    options = {"null": True, "blank": True, "default": None, "serialize": False}


class StateFailuresField(_EngineColumn, SmallIntegerField):
    """The number of failures in a row, at most ``MOST_FAILURES``.

    Of a row that somebody parked it is -1 less that number.

    No ``Positive…`` field: to add its CHECK, PostgreSQL reads a table that it lets nobody else use.
    """

    plain = models.SmallIntegerField
    options = {"default": 0, "db_default": 0}


class StateHistoryField(_WorkedOut, JSONField):
    """``[state, timestamp]`` pairs, oldest first, if it is declared as ``state_history``.

    The state is a name, the timestamp an ISO 8601 string in UTC. A new row starts with its first
    pair; every later transition appends one.
    """

    plain = models.JSONField
    options = {"default": list, "db_default": []}

    def fresh(self, instance: Any, value: Any) -> Any:
        return value or [[str(instance.state), clock.now().isoformat()]]


class StateLifeEndsField(_WorkedOut, _Moment, NullableDateTimeField):
    """When the row's life ends, if it is declared as ``state_life_ends``; NULL for never.

    By default that is the ``lifetime()`` of the graph after the ``state_changed`` that the row is
    inserted with. Code may give a row another end.
    """

    plain = models.DateTimeField
    # A default, so that factories which fill optional columns leave it empty.
    options = {"null": True, "blank": True, "default": None}

    def fresh(self, instance: Any, value: Any) -> Any:
        return new_life_ends(instance) if value is None else value


def new_life_ends(instance: Any) -> datetime | None:
    """When the life of a row that is about to be inserted will end; None for never."""
    lifetime = type(instance).state_graph.declared_lifetime
    if lifetime is None or not has_life_ends(type(instance)):
        return None
    values = instance.__dict__
    given = values.get(LIFE_ENDS) if instance._state.db is None else None  # a copy begins anew
    if isinstance(given, datetime):
        return _aware(given)
    began = values["state_changed"]
    began = _aware(began) if isinstance(began, datetime) else clock.now()
    return began + timedelta(seconds=lifetime.after)


def _aware(moment: datetime) -> datetime:
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def life_ends(row: Any) -> datetime | None:
    """When the life of a row ends, as it was loaded or last saved; None for never."""
    try:
        ends: datetime | None = as_loaded(row, LIFE_ENDS)
    except KeyError:  # the model has no such column, of which a system check tells
        return None
    return ends


class StateTraceField(_WorkedOut, CharField):
    """The trace that created the row, or moved it last, if it is declared as ``state_trace``.

    It is a ``traceparent`` of the W3C's Trace Context, empty where no span was active. Whatever
    moves the row replaces it; only a runner without spans leaves it. Each attempt is linked to it.
    """

    plain = models.CharField
    options = {"max_length": LONGEST, "blank": True, "default": "", "db_default": ""}

    def fresh(self, instance: Any, value: Any) -> Any:
        return value or current_trace()


MOST_FAILURES = 32767


def parked_count(failures: Any) -> Any:
    """The count of a row that is parked by hand, from what it was, and back; of a column, too."""
    return -1 - failures


def is_parked_by_hand(row: Any) -> bool:
    """Whether somebody parked the row, by its count of failures."""
    failures: int = row.state_failures
    return failures < 0


def in_a_row(failures: int) -> int:
    """The number of failures in a row, by what a row counts, also where it is parked by hand."""
    return failures if failures >= 0 else int(parked_count(failures))


def failures_of(row: Any) -> int:
    """The number of the row's failures in a row, also of one that is parked by hand."""
    return in_a_row(row.state_failures)


ENGINE_COLUMNS = (
    "state",
    "state_changed",
    "state_next",
    "state_lease",
    "state_claim",
    "state_failures",
    "state_life_ends",
    "state_history",
    "state_trace",
)
LIFE_ENDS = "state_life_ends"


def _present_columns(model: Any) -> tuple[str, ...]:
    """The engine's columns that ``model`` has (end of life, history and trace are optional)."""
    own = {field.attname for field in model._meta.concrete_fields}
    return tuple(name for name in ENGINE_COLUMNS if name in own)


# Typed once more: to type checkers no model class is hashable.
present_columns: Callable[[Any], tuple[str, ...]] = cache(_present_columns)


def has_life_ends(model: Any) -> bool:
    """Whether ``model`` has a column for the end of a row's life."""
    return LIFE_ENDS in present_columns(model)


class loading:
    """A context in which values assigned to an instance count as loaded from the database.

    It is a class because every save enters it, and a generator takes three times as long.
    """

    def __init__(self, instance: Any) -> None:
        self._data: dict[str, Any] = instance.__dict__

    def __enter__(self) -> None:
        self._outermost = self._data.setdefault(_LOADING, self) is self

    def __exit__(self, *exception: object) -> None:
        if self._outermost:
            self._data.pop(_LOADING, None)


def changes(instance: Any) -> dict[str, Any]:
    """The state columns of ``instance`` that were assigned another value, and that value."""
    data = instance.__dict__
    before = data.get(_BEFORE, {})
    return {name: data[name] for name, was in before.items() if data.get(name) != was}


def as_loaded(instance: Any, name: str) -> Any:
    """The value of the column ``name`` when ``instance`` was loaded or last saved.

    ``KeyError`` is raised if the column was deferred.
    """
    data = instance.__dict__
    before = data.get(_BEFORE, {})
    return before[name] if name in before else data[name]


def forget_changes(instance: Any, names: Any = None) -> None:
    """Count the present values of ``instance`` as loaded: all, or those of ``names``."""
    before = instance.__dict__.pop(_BEFORE, None)
    if before is not None and names is not None:
        instance.__dict__[_BEFORE] = {name: before[name] for name in before if name not in names}
