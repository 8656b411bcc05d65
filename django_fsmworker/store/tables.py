"""A model's table, as the store's SQL needs it: quoted names, the key's type, rows to instances."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from typing import Any

from django.db import connections
from django.db.models import QuerySet
from django.db.models.base import ModelState

from django_fsmworker.models.saving import ENGINE_COLUMNS
from django_fsmworker.store.instances import build

logger = logging.getLogger(__name__)


class Table:
    """Names and converters of one model on one database."""

    def __init__(self, model: Any, alias: str) -> None:
        self.model = model
        self.alias = alias
        connection = connections[alias]
        self.quote = connection.ops.quote_name
        meta = model._meta
        self.fields = list(meta.concrete_fields)
        columns = {field.attname: self.quote(field.column) for field in self.fields}
        self.name = self.quote(meta.db_table)
        self.pk = columns[meta.pk.attname]
        self.pk_type = meta.pk.rel_db_type(connection)
        self.state = columns["state"]
        self.changed = columns["state_changed"]
        self.next = columns["state_next"]
        self.lease = columns["state_lease"]
        self.claim = columns["state_claim"]
        self.failures = columns["state_failures"]
        self.history: str | None = columns.get("state_history")

    def prepare_keys(self, keys: Iterable[Any]) -> list[Any]:
        """Primary keys as the driver wants them."""
        field, connection = self.model._meta.pk, connections[self.alias]
        return [field.get_db_prep_value(key, connection) for key in keys]

    def load_keys(self, rows: Iterable[Sequence[Any]]) -> set[Any]:
        """Primary keys from rows of one column, as Python values."""
        return {row[0] for row in self._convert(rows, [self.model._meta.pk])}

    def load(self, rows: Iterable[Sequence[Any]]) -> list[Any]:
        """Model instances from rows that hold every column in the order of ``whole_row``."""
        names = [field.attname for field in self.fields]
        return build(self.model, self.alias, names, self._convert(rows, self.fields))

    def load_claimed(self, tokens: Iterable[int], states: Iterable[str]) -> list[Any]:
        """The rows that a claim took, loaded one by one, after loading them together has failed.

        One whose values no field or driver can read comes with the engine's columns only, past the
        model's own ``__init__``: the others are deferred, so the row's own check meets the error,
        and no other row does.
        """
        rows: QuerySet[Any] = QuerySet(self.model, using=self.alias)
        own = [field for field in self.fields if self._is_own(field)]
        names = [field.attname for field in own]
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
            return bare

    @cached_property
    def returned_key(self) -> str:
        """The key, for a RETURNING clause."""
        return f"{self.name}.{self.pk}"

    @cached_property
    def whole_row(self) -> str:
        """Every column, for a RETURNING clause, as its field wants it selected."""
        compiler = self._compiler
        return ", ".join(
            field.select_format(compiler, f"{self.name}.{self.quote(field.column)}", [])[0]
            for field in self.fields
        )

    @staticmethod
    def _is_own(field: Any) -> bool:
        return field.primary_key or field.attname in ENGINE_COLUMNS

    @property
    def _compiler(self) -> Any:
        return QuerySet(self.model, using=self.alias).query.get_compiler(self.alias)

    def _convert(self, rows: Iterable[Sequence[Any]], fields: Sequence[Any]) -> Iterable[Any]:
        compiler = self._compiler
        expressions = [field.get_col(self.model._meta.db_table) for field in fields]
        converters = compiler.get_converters(expressions)
        return compiler.apply_converters(rows, converters) if converters else rows


@cache
def table_for(model: Any, alias: str) -> Table:
    """The model's table on the database behind ``alias``."""
    return Table(model, alias)
