"""A model's table, as the store's SQL needs it: quoted names, the key's columns, rows to instances.

A key has one column, or several. In a statement its parts are called ``key_1``, ``key_2``, …; a key
of one column is a plain value in Python, a composite one a tuple.

The table is the one that has the state column. A multi-table child that declares it has other
columns in its parents' tables: those are read by one more query.

The relations that checks use are loaded here, too, for all rows of a claim at once.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from django.db import DatabaseError, connections
from django.db.models import (
    AutoField,
    BigAutoField,
    BigIntegerField,
    IntegerField,
    Model,
    Prefetch,
    QuerySet,
    SmallAutoField,
    prefetch_related_objects,
)
from django.db.models.base import ModelState
from django.db.models.fields.files import FileDescriptor
from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import post_init, pre_init

from django_fsmworker.logs import logger_for
from django_fsmworker.models.fields import (
    ENGINE_COLUMNS,
    LIFE_ENDS,
    StateAttribute,
    TrackedAttribute,
)
from django_fsmworker.models.indexes import states_keyed_by
from django_fsmworker.models.keys import MOST_KEYS, declaring_model, portions
from django_fsmworker.store.drivers import driver_of
from django_fsmworker.store.errors import is_outage

logger = logger_for(__name__)

QUOTES = '"`'

# Fields that hand an integer to the driver as it is.
TAKING_INTEGERS = {AutoField, BigAutoField, BigIntegerField, IntegerField, SmallAutoField}


class Table:
    """Names and converters of one model on one database."""

    def __init__(self, model: Any, alias: str) -> None:
        self.model = model
        self.database = alias
        connection = connections[alias]
        self.quote = connection.ops.quote_name
        meta = model._meta
        self._owner = owner = declaring_model(model)
        self.fields = [field for field in meta.concrete_fields if field.model is owner]
        self.inherited = [field for field in meta.concrete_fields if field.model is not owner]
        self.key_fields = list(getattr(meta.pk, "fields", [meta.pk]))
        self.name = self.quote(owner._meta.db_table)
        # A column's bare name is for the left side of an assignment; anywhere else it might be
        # another thing's, too.
        self.column = columns = {field.attname: self.quote(field.column) for field in self.fields}
        self.qualified = {each: f"{self.name}.{column}" for each, column in columns.items()}
        self.key = [columns[field.attname] for field in self.key_fields]
        self._key_is_plain = [type(field) in TAKING_INTEGERS for field in self.key_fields]
        self.key_types = [field.rel_db_type(connection) for field in self.key_fields]
        self.key_parts = [f"key_{number}" for number, _ in enumerate(self.key, 1)]
        self.state = self.qualified["state"]
        self.changed = self.qualified["state_changed"]
        self.next = self.qualified["state_next"]
        self.lease = self.qualified["state_lease"]
        self.claim = self.qualified["state_claim"]
        self.failures = self.qualified["state_failures"]
        self.history: str | None = self.qualified.get("state_history")
        self.trace: str | None = self.qualified.get("state_trace")
        self._life_ends: str | None = self.qualified.get(LIFE_ENDS)

    @property
    def logs_transitions(self) -> bool:
        """Whether the rows have a log."""
        return bool(self._owner.log_transitions)

    def life_ends(self, state: str) -> str | None:
        """The column with the end of a row's life, where that counts in ``state``; or None."""
        declared = self.model.state_graph.states.get(state)
        counts = declared is not None and declared.lifetime_state is not None
        return self._life_ends if counts else None

    def life_ends_in(self, state: str) -> str | None:
        """A term for the end of a row's life where it counts in the state that the term ``state``
        names, NULL where it does not; None if it never does.
        """
        names = [name for name in self.model.state_graph.states if self.life_ends(name)]
        if not names:
            return None
        listed = ", ".join(f"'{name}'" for name in names)
        return f"CASE WHEN {state} IN ({listed}) THEN {self._life_ends} END"

    def alias(self, name: str) -> str:
        """``name`` for a part of a statement about this table, or one like it that is not its own.

        No name that a project gives its table may hide a part of the statement.
        """
        own = self.name.lower().strip(QUOTES).replace('"', ".").replace("`", ".").split(".")
        while name in own:
            name += "_"
        return name

    def free_column(self, *names: str) -> str:
        """The first of ``names`` that is not the name of a column: what it means otherwise."""
        taken = {field.column.lower() for field in self.fields}
        return next(name for name in names if name not in taken)

    def key_is(self, parts: Iterable[str]) -> str:
        """The condition that a row of the table has the key made of these SQL expressions."""
        pairs = zip(self.key, parts, strict=True)
        return " AND ".join(f"{self.name}.{column} = {part}" for column, part in pairs)

    def prepared(self, name: str, values: Iterable[Any]) -> list[Any]:
        """Values of the column with the attribute ``name``, as the driver wants them."""
        field, connection = self._field(name), connections[self.database]
        return [field.get_db_prep_value(value, connection) for value in values]

    def type_of(self, name: str) -> str:
        """The type of that column."""
        return str(self._field(name).rel_db_type(connections[self.database]))

    def loaded(self, name: str, values: Iterable[Any]) -> list[Any]:
        """Values of that column as Python has them, from what the driver has read."""
        rows = self._convert([[value] for value in values], [self._field(name)])
        return [row[0] for row in rows]

    def keyed_by(self, name: str) -> str:
        """The condition of the rows that are in the index by that column; nothing if all are."""
        states = states_keyed_by(self.model, name)
        if not states:
            return ""
        return f" AND {self.state} IN ({', '.join(repr(state) for state in states)})"

    def _field(self, name: str) -> Any:
        return next(field for field in self.fields if field.attname == name)

    def assignments(self, values: Mapping[str, str]) -> str:
        """A SET clause that gives each column, by its field's name, an SQL term."""
        return ", ".join(f"{self.column[name]} = {term}" for name, term in values.items())

    def prepare_keys(self, keys: Iterable[Any]) -> list[list[Any]]:
        """Primary keys as the driver wants them: for each a list of its parts."""
        return [list(parts) for parts in zip(*self.key_arrays(keys), strict=True)]

    def key_arrays(self, keys: Iterable[Any]) -> list[list[Any]]:
        """Primary keys as the driver wants them: for each column of the key its values."""
        connection, found = connections[self.database], list(keys)
        columns = [found]
        if self.is_composite:
            columns = [[key[number] for key in found] for number, _ in enumerate(self.key)]
        return [
            values
            if plain and set(map(type, values)) <= {int}
            else [field.get_db_prep_value(value, connection) for value in values]
            for field, plain, values in zip(
                self.key_fields, self._key_is_plain, columns, strict=True
            )
        ]

    def load_keys(self, rows: Iterable[Sequence[Any]]) -> set[Any]:
        """Primary keys from rows that begin with the key's columns, as Python values."""
        return set(self.each_key(rows))

    def each_key(self, rows: Iterable[Sequence[Any]]) -> list[Any]:
        """Primary keys from rows that begin with the key's columns, in the order of the rows."""
        converted = self._convert(rows, self.key_fields)
        if self.is_composite:
            return [tuple(row[: len(self.key)]) for row in converted]
        return [row[0] for row in converted]

    def keys_within(self, rows: Iterable[Sequence[Any]]) -> set[Any]:
        """The primary keys of rows that hold every column in the order of ``whole_row``."""
        at = [self.fields.index(field) for field in self.key_fields]
        return self.load_keys([[row[position] for position in at] for row in rows])

    def load(self, rows: Iterable[Sequence[Any]], aware: bool = False) -> list[Any]:
        """Model instances from rows that hold every column in the order of ``whole_row``.

        ``aware``: timestamps have their time zone already. What they are related to comes along, if
        the model says so.
        """
        instances = self.load_plain(rows, aware)
        load_related(self.model, instances, self.database)
        return instances

    def load_plain(self, rows: Iterable[Sequence[Any]], aware: bool = False) -> list[Any]:
        """Model instances as ``load()`` makes them, without what they are related to."""
        loaded = self._convert(rows, self.fields, aware)
        if self.inherited:
            loaded = self._with_inherited([tuple(row) for row in loaded])
        names = [field.attname for field in self.model._meta.concrete_fields]
        return build(self.model, self.database, names, loaded)

    def _with_inherited(self, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        """``rows`` with the columns of the parents' tables, in the model's own order.

        A row whose parent is gone meanwhile is gone itself.
        """
        fields, model = [*self.fields, *self.inherited], self.model
        names = [field.attname for field in self.inherited]
        order = [fields.index(field) for field in model._meta.concrete_fields]
        at = self.fields.index(model._meta.pk)
        keys = [row[at] for row in rows]
        parents: dict[Any, Any] = {}
        for some in portions(keys, MOST_KEYS):
            present: QuerySet[Any] = QuerySet(model, using=self.database).filter(pk__in=some)
            parents |= {key: own for key, *own in present.values_list("pk", *names)}
        for key, row in zip(keys, rows, strict=True):
            if key in parents:
                values = [*row, *parents[key]]
                yield [values[position] for position in order]

    def load_claimed(self, tokens: Iterable[int], states: Iterable[str]) -> list[Any]:
        """The rows that a claim took, loaded one by one, after loading them together has failed.

        One whose values no field or driver can read comes with the engine's columns only, past the
        model's own ``__init__``: the others are deferred, so the row's own check meets the error,
        and no other row does.
        """
        rows: QuerySet[Any] = QuerySet(self.model, using=self.database)
        names = [field.attname for field in self.own_fields]
        claimed = rows.filter(
            state__in=list(states), state_next__isnull=False, state_claim__in=list(tokens)
        )
        return [self._load_one(rows, names, values) for values in claimed.values_list(*names)]

    def _load_one(self, rows: QuerySet[Any], names: list[str], values: Sequence[Any]) -> Any:
        bare = self.model.__new__(self.model)
        bare._state = ModelState()
        bare._state.db, bare._state.adding = self.database, False
        bare.__dict__.update(zip(names, values, strict=True))
        try:
            return rows.get(pk=bare.pk)
        except Exception as error:
            logger.warning(
                "%s %s cannot be loaded (%s).",
                self.model._meta.label,
                bare.pk,
                error,
                extra={"action": "unreadable", "model": self.model._meta.label, "pk": bare.pk},
            )
            self.stop_reading()
            return bare

    def stop_reading(self) -> None:
        """Leave the thread's connection usable after an answer with a value that cannot be read."""
        connection = connections[self.database]
        driver_of(connection).stop_reading(connection)

    @property
    def is_composite(self) -> bool:
        """Whether the key has several columns."""
        return len(self.key) > 1

    @cached_property
    def key_columns(self) -> tuple[str, ...]:
        """The key's columns, each for a RETURNING clause or a SELECT."""
        return tuple(f"{self.name}.{column}" for column in self.key)

    @cached_property
    def returned_key(self) -> str:
        """The key's columns, as one clause."""
        return ", ".join(self.key_columns)

    @cached_property
    def all_columns(self) -> tuple[str, ...]:
        """Every column, each for a RETURNING clause."""
        return tuple(self.selected(self.fields))

    @cached_property
    def whole_row(self) -> str:
        """Every column, as one clause."""
        return ", ".join(self.all_columns)

    @cached_property
    def own_fields(self) -> list[Any]:
        """The fields of the key and those of the engine."""
        return [
            field
            for field in self.fields
            if field in self.key_fields or field.attname in ENGINE_COLUMNS
        ]

    @cached_property
    def timestamps(self) -> tuple[int, ...]:
        """Where in a whole row Django's own converter of timestamps is at work."""
        own: Any = connections[self.database].ops
        converters = self._converters(self.fields)
        return tuple(
            position
            for position, (some, _) in converters.items()
            if own.convert_datetimefield_value in some
        )

    def select(self, fields: Iterable[Any]) -> str:
        """The columns of these fields, each as the field wants it selected."""
        return ", ".join(self.selected(fields))

    def selected(self, fields: Iterable[Any]) -> list[str]:
        """The columns of these fields, one by one, each as the field wants it selected."""
        compiler = self._compiler
        return [
            field.select_format(compiler, f"{self.name}.{self.quote(field.column)}", [])[0]
            for field in fields
        ]

    @property
    def _compiler(self) -> Any:
        return QuerySet(self.model, using=self.database).query.get_compiler(self.database)

    def _convert(
        self, rows: Iterable[Sequence[Any]], fields: Sequence[Any], aware: bool = False
    ) -> Iterable[Any]:
        if self._is_read_plainly:
            return rows
        converters = self._converters(fields)
        if aware:
            converters = self._without_time_zones(converters)
        return self._compiler.apply_converters(rows, converters) if converters else rows

    @cached_property
    def _is_read_plainly(self) -> bool:
        """Whether every value is as the driver reads it; asking takes longer than reading a row."""
        return not self._converters([*self.fields, *self.inherited, *self.key_fields])

    def _converters(self, fields: Sequence[Any]) -> dict[int, Any]:
        expressions = [field.get_col(self.model._meta.db_table) for field in fields]
        found: dict[int, Any] = self._compiler.get_converters(expressions)
        return found

    def _without_time_zones(self, converters: dict[int, Any]) -> dict[int, Any]:
        """``converters`` less Django's own of timestamps."""
        own: Any = connections[self.database].ops
        kept = {
            position: ([each for each in some if each != own.convert_datetimefield_value], column)
            for position, (some, column) in converters.items()
        }
        return {position: found for position, found in kept.items() if found[0]}


def no_table(model: Any) -> str:
    """The sentence that refuses what is a table to Django only."""
    return (
        f"The table of {model._meta.label} is a view or a foreign table, whose rows cannot be "
        f"locked and claimed; run the model of the table behind it, and exclude this one with "
        f"--exclude {model._meta.label}."
    )


@cache
def table_for(model: Any, alias: str) -> Table:
    """The table with the model's state, on the database behind ``alias``."""
    owner = declaring_model(model)
    shares_table = model._meta.concrete_model is owner
    return Table(model if shares_table else owner, alias)


# Instances from the rows of a claim, without the detours that most models do not need. Django's
# ``Model.__init__`` asks for receivers, and sets each attribute through its descriptor; where all
# of that comes down to filling ``__dict__``, that is what is done here, in a third less time. Any
# model that changes how instances are made gets them from its own ``from_db()``.

# Descriptors that keep the first value they are given as it is, under the attribute's own name.
PLAIN = {
    DeferredAttribute,
    FileDescriptor,
    ForeignKeyDeferredAttribute,
    StateAttribute,
    TrackedAttribute,
}


def build(model: Any, alias: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Any]:
    """An instance for each of ``rows``, which hold a value for each of ``names``."""
    if not is_plain(model) or pre_init.has_listeners(model) or post_init.has_listeners(model):
        return [model.from_db(alias, names, row) for row in rows]
    new, instances = model.__new__, []
    for row in rows:
        instance = new(model)
        state = ModelState()
        state.adding, state.db = False, alias
        attributes = instance.__dict__
        attributes["_state"] = state
        attributes.update(zip(names, row, strict=True))
        instances.append(instance)
    return instances


@cache
def is_plain(model: Any) -> bool:
    """Whether loading a row of ``model`` does nothing but fill its ``__dict__``."""
    return (
        inspect.getattr_static(model, "from_db") is inspect.getattr_static(Model, "from_db")
        and model.__init__ is Model.__init__
        and not _initialised_by_others(model)
        and model.__new__ is object.__new__
        and model.__setattr__ is object.__setattr__
        and all(
            type(inspect.getattr_static(model, field.attname, None)) in PLAIN
            for field in model._meta.concrete_fields
        )
    )


def _initialised_by_others(model: Any) -> bool:
    """Whether a class behind Django's own in the order of inheritance has an ``__init__``, too."""
    behind = model.__mro__[model.__mro__.index(Model) + 1 :]
    return any("__init__" in vars(each) for each in behind if each is not object)


def load_related(model: Any, rows: Sequence[Any], alias: str) -> None:
    """Load what the states of ``rows`` declare with ``select_related``, one query a relation.

    They are loaded from the rows' own database. What the database refuses is left for the check,
    which asks for it again, and fails by its own error.
    """
    wanted = _relations(declaring_model(model))
    if not wanted:
        return
    by_names: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)
    for row in rows:
        names = wanted.get(row.__dict__["state"])
        if names:
            by_names[names].append(row)
    for names, some in by_names.items():
        try:
            prefetch_related_objects(some, *_lookups(model, names, alias))
        except DatabaseError as error:
            if is_outage(error):
                raise


def relation_fault_of(model: Any, name: str) -> str | None:
    """What is wrong with a relation's name; None if nothing is."""
    for step in name.split("__"):
        field = next((each for each in model._meta.fields if each.name == step), None)
        if field is None or not field.is_relation:
            return f"{model._meta.label} has no foreign key {step!r}."
        model = field.related_model
    return None


@cache
def _relations(model: Any) -> dict[str, tuple[str, ...]]:
    """The names of relations, by the name of the state."""
    states = model.state_graph.states.values()
    return {state.name: state.select_related for state in states if state.select_related}


def _lookups(model: Any, names: Sequence[str], alias: str) -> list[Prefetch[Any]]:
    """Each step of each relation, in the database ``alias``, whatever the managers hide."""
    found: dict[str, Prefetch[Any]] = {}
    for name in names:
        target, path = model, ""
        for step in name.split("__"):
            target = target._meta.get_field(step).related_model
            path = f"{path}__{step}" if path else step
            found[path] = Prefetch(path, QuerySet(target, using=alias))
    return list(found.values())
