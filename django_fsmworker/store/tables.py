"""A model's table, as the store's SQL needs it: quoted names, the key's type, rows to instances."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from django_fsmworker.models.saving import ENGINE_COLUMNS

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
        """Model instances from rows that hold every column in the order of ``whole_row``.

        A row with a value that its field cannot read comes with the engine's columns only: the
        others are deferred, so its own check meets the error, and no other row does.
        """
        rows = list(rows)
        try:
            return self._build(rows, self.fields)
        except Exception:
            return [self._load_alone(row) for row in rows]

    @cached_property
    def whole_row(self) -> str:
        """Every column, for a RETURNING clause, as its field wants it selected."""
        compiler = self._compiler
        return ", ".join(
            field.select_format(compiler, f"{self.name}.{self.quote(field.column)}", [])[0]
            for field in self.fields
        )

    def _load_alone(self, row: Sequence[Any]) -> Any:
        try:
            return self._build([row], self.fields)[0]
        except Exception as error:
            logger.warning(
                "A row of %s cannot be loaded whole (%s).",
                self.model._meta.label,
                error,
                extra={"action": "unreadable", "model": self.model._meta.label},
            )
        readable = [each for each in zip(self.fields, row, strict=True) if self._is_own(each[0])]
        fields, values = zip(*readable, strict=True)
        return self._build([values], fields)[0]

    def _build(self, rows: Iterable[Sequence[Any]], fields: Sequence[Any]) -> list[Any]:
        names = [field.attname for field in fields]
        build = self.model.from_db
        return [build(self.alias, names, row) for row in self._convert(rows, fields)]

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
