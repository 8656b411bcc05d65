"""A model's table, as the store's SQL needs it: quoted names, the key's columns, rows to instances.

A key has one column, or several. In a statement its parts are called ``key_1``, ``key_2``, …; a key
of one column is a plain value in Python, a composite one a tuple.

The table is the one that has the state column. A multi-table child that declares it has other
columns in its parents' tables: those are read by one more query.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any

from django.db import connections
from django.db.models import (
    AutoField,
    BigAutoField,
    BigIntegerField,
    IntegerField,
    QuerySet,
    SmallAutoField,
)
from django.db.models.base import ModelState

from django_fsmworker.models.discovery import declaring_model
from django_fsmworker.models.keys import MOST_KEYS, batched
from django_fsmworker.models.saving import ENGINE_COLUMNS
from django_fsmworker.store.instances import build

logger = logging.getLogger(__name__)

# Fields that hand an integer to the driver as it is.
TAKING_INTEGERS = {AutoField, BigAutoField, BigIntegerField, IntegerField, SmallAutoField}


class Table:
    """Names and converters of one model on one database."""

    def __init__(self, model: Any, alias: str) -> None:
        self.model = model
        self.alias = alias
        connection = connections[alias]
        self.quote = connection.ops.quote_name
        meta = model._meta
        owner = declaring_model(model)
        self.fields = [field for field in meta.concrete_fields if field.model is owner]
        self.inherited = [field for field in meta.concrete_fields if field.model is not owner]
        self.key_fields = list(getattr(meta.pk, "fields", [meta.pk]))
        columns = {field.attname: self.quote(field.column) for field in self.fields}
        self.name = self.quote(owner._meta.db_table)
        self.key = [columns[field.attname] for field in self.key_fields]
        self._key_is_plain = [type(field) in TAKING_INTEGERS for field in self.key_fields]
        self.key_types = [field.rel_db_type(connection) for field in self.key_fields]
        self.key_parts = [f"key_{number}" for number, _ in enumerate(self.key, 1)]
        self.state = columns["state"]
        self.changed = columns["state_changed"]
        self.next = columns["state_next"]
        self.lease = columns["state_lease"]
        self.claim = columns["state_claim"]
        self.failures = columns["state_failures"]
        self.history: str | None = columns.get("state_history")

    def key_is(self, parts: Iterable[str]) -> str:
        """The condition that a row of the table has the key made of these SQL expressions."""
        pairs = zip(self.key, parts, strict=True)
        return " AND ".join(f"{self.name}.{column} = {part}" for column, part in pairs)

    def prepare_keys(self, keys: Iterable[Any]) -> list[list[Any]]:
        """Primary keys as the driver wants them: for each a list of its parts."""
        return [list(parts) for parts in zip(*self.key_arrays(keys), strict=True)]

    def key_arrays(self, keys: Iterable[Any]) -> list[list[Any]]:
        """The same, for each column of the key a list of its values."""
        connection, found = connections[self.alias], list(keys)
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
        """As ``load_keys()``, in the order of the rows."""
        converted = self._convert(rows, self.key_fields)
        if self.is_composite:
            return [tuple(row[: len(self.key)]) for row in converted]
        return [row[0] for row in converted]

    def load(self, rows: Iterable[Sequence[Any]], aware: bool = False) -> list[Any]:
        """Model instances from rows that hold every column in the order of ``whole_row``.

        ``aware``: timestamps have their time zone already.
        """
        loaded = self._convert(rows, self.fields, aware)
        if self.inherited:
            loaded = self._with_inherited([tuple(row) for row in loaded])
        names = [field.attname for field in self.model._meta.concrete_fields]
        return build(self.model, self.alias, names, loaded)

    def _with_inherited(self, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        """The same rows with the columns of the parents' tables, in the model's own order.

        A row whose parent is gone meanwhile is gone itself.
        """
        fields, model = [*self.fields, *self.inherited], self.model
        names = [field.attname for field in self.inherited]
        order = [fields.index(field) for field in model._meta.concrete_fields]
        at = self.fields.index(model._meta.pk)
        keys = [row[at] for row in rows]
        parents: dict[Any, Any] = {}
        for some in batched(keys, MOST_KEYS):
            present: QuerySet[Any] = QuerySet(model, using=self.alias).filter(pk__in=some)
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
        rows: QuerySet[Any] = QuerySet(self.model, using=self.alias)
        names = [field.attname for field in self.own_fields]
        claimed = rows.filter(
            state__in=list(states), state_next__isnull=False, state_claim__in=list(tokens)
        )
        return [self._load_one(rows, names, values) for values in claimed.values_list(*names)]

    def _load_one(self, rows: QuerySet[Any], names: list[str], values: Sequence[Any]) -> Any:
        bare = self.model.__new__(self.model)
        bare._state = ModelState()
        bare._state.db, bare._state.adding = self.alias, False
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
        """After a value that cannot be read: PyMySQL may have left the rest of the answer."""
        connection = connections[self.alias]
        if connection.vendor == "mysql" and not connection.in_atomic_block:
            connection.close()

    @property
    def is_composite(self) -> bool:
        """Whether the key has several columns."""
        return len(self.key) > 1

    @cached_property
    def returned_key(self) -> str:
        """The key's columns, for a RETURNING clause or a SELECT."""
        return ", ".join(f"{self.name}.{column}" for column in self.key)

    @cached_property
    def whole_row(self) -> str:
        """Every column, for a RETURNING clause."""
        return self.select(self.fields)

    @cached_property
    def own_fields(self) -> list[Any]:
        """The key's and the engine's."""
        return [
            field
            for field in self.fields
            if field in self.key_fields or field.attname in ENGINE_COLUMNS
        ]

    def select(self, fields: Iterable[Any]) -> str:
        """The columns of these fields, each as the field wants it selected."""
        return ", ".join(self.selected(fields))

    def selected(self, fields: Iterable[Any]) -> list[str]:
        """The same, one by one."""
        compiler = self._compiler
        return [
            field.select_format(compiler, f"{self.name}.{self.quote(field.column)}", [])[0]
            for field in fields
        ]

    @property
    def _compiler(self) -> Any:
        return QuerySet(self.model, using=self.alias).query.get_compiler(self.alias)

    def _convert(
        self, rows: Iterable[Sequence[Any]], fields: Sequence[Any], aware: bool = False
    ) -> Iterable[Any]:
        compiler = self._compiler
        expressions = [field.get_col(self.model._meta.db_table) for field in fields]
        converters = compiler.get_converters(expressions)
        if aware:
            converters = self._without_time_zones(converters)
        return compiler.apply_converters(rows, converters) if converters else rows

    def _without_time_zones(self, converters: dict[int, Any]) -> dict[int, Any]:
        """``converters`` less Django's own of timestamps."""
        own: Any = connections[self.alias].ops
        kept = {
            position: ([each for each in some if each != own.convert_datetimefield_value], column)
            for position, (some, column) in converters.items()
        }
        return {position: found for position, found in kept.items() if found[0]}


@cache
def table_for(model: Any, alias: str) -> Table:
    """The table with the model's state, on the database behind ``alias``."""
    owner = declaring_model(model)
    shares_table = model._meta.concrete_model is owner
    return Table(model if shares_table else owner, alias)
