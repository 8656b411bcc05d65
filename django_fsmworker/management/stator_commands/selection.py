"""Rows that a command line names: by their keys, their columns, or what is the matter with them."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any

from django.core.exceptions import EmptyResultSet, FieldError, ValidationError
from django.core.management.base import CommandError
from django.db.models import IntegerField, QuerySet

from django_fsmworker.logs import shown
from django_fsmworker.management.stator_commands.subcommand import alias_of, whole_number
from django_fsmworker.models import StatorQuerySet
from django_fsmworker.models.keys import is_composite, key_fields, key_from, with_keys

WORDS = ("due", "failing", "lapsed", "parked", "running", "stranded", "unknown_state")


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Keys, ``--filter``, ``--only`` and ``--all``."""
    parser.add_argument("keys", nargs="*", metavar="PK", help="primary keys of rows")
    parser.add_argument(
        "--filter", action="append", default=[], dest="filters", metavar="FIELD=VALUE",
        help="rows with this value, as QuerySet.filter() takes it; may be given several times",
    )  # fmt: skip
    parser.add_argument("--only", choices=WORDS, help="rows that are so")
    parser.add_argument("--all", action="store_true", help="all rows of the model")
    parser.add_argument("--limit", type=whole_number, metavar="N", help="no more than so many rows")
    parser.add_argument("--dry-run", action="store_true", help="only count the rows")


def selected_rows(model: Any, options: dict[str, Any]) -> StatorQuerySet[Any]:
    """The rows that the command line names."""
    keys, filters, word = options["keys"], options["filters"], options["only"]
    if not (keys or filters or word or options["all"]):
        raise CommandError("Name rows: by their primary keys, --filter, --only or --all.")
    rows: StatorQuerySet[Any] = StatorQuerySet(model, using=alias_of(model, options))
    if word:
        rows = getattr(rows, word)()
    if keys:
        rows = rows.filter(with_keys(model, [key_named(model, key) for key in keys]))
    for each in filters:
        rows = _filtered(rows, each)
    if options["limit"] is not None:
        rows = rows.order_by("pk")[: options["limit"]]
    return rows


def missing_keys(model: Any, options: dict[str, Any]) -> list[str]:
    """The keys on the command line that no row has."""
    keys = {text: key_named(model, text) for text in options["keys"]}
    rows: QuerySet[Any] = QuerySet(model, using=alias_of(model, options))
    found = rows.filter(with_keys(model, list(keys.values())))
    there = set(found.values_list("pk", flat=True)) if keys else set()
    return [text for text, key in keys.items() if key not in there]


def row_with_key(model: Any, key: str, options: dict[str, Any]) -> Any:
    """The row with that key, as the command line has it."""
    rows: QuerySet[Any] = QuerySet(model, using=alias_of(model, options))
    row = rows.filter(pk=key_named(model, key)).first()
    if row is None:
        raise CommandError(f"There is no {model._meta.label} with the key {shown(key)}.")
    return row


def key_named(model: Any, text: str) -> Any:
    """The key of a row of ``model`` that the command line has as ``text``."""
    try:
        key = key_from(model, text)
        parts = zip(key_fields(model), key if is_composite(model) else [key], strict=True)
        for field, part in parts:
            if isinstance(field, IntegerField):
                field.run_validators(part)  # whether the column can hold it
        return key
    except (ValueError, TypeError, ValidationError):
        raise CommandError(
            f"{text!r} is not a key of {model._meta.label}; "
            f"write one of several columns as a JSON list."
        ) from None


def _filtered(rows: StatorQuerySet[Any], text: str) -> StatorQuerySet[Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise CommandError(f"{text!r} is not a filter; write FIELD=VALUE.")
    try:
        filtered = rows.filter(**{name: _as_looked_up(name, value)})
        with suppress(EmptyResultSet):
            filtered.query.get_compiler(rows.db).as_sql()  # which finds what filter() does not
        return filtered
    except (FieldError, ValueError, TypeError, ValidationError) as error:
        raise CommandError(f"{text!r} is not a filter of these rows: {error}") from None


def _as_looked_up(name: str, value: str) -> Any:
    """The value as the lookup at the end of ``name`` takes it."""
    lookup = name.rpartition("__")[2]
    if lookup in ("in", "range"):
        return value.split(",")
    if lookup == "isnull":
        return {"true": True, "false": False}.get(value.lower(), value)
    return value
