"""The fields of a row that user code changed and did not save; after checks, in DEBUG only."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from types import NoneType
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.signals import setting_changed
from django.db.models.fields.files import FieldFile

from django_fsmworker.models.keys import has_key

SEEN = "_state_seen"


PLAIN = (NoneType, bool, int, float, str, bytes, Decimal, UUID, date, timedelta, time)
PLAIN_TYPES = frozenset((*PLAIN, datetime))


class Snapshot:
    """A value as it was: what is changed in place is told apart, too.

    Nothing raises here, whatever the classes of values do when they are copied and compared: a
    warning must not decide how an attempt ends.
    """

    def __init__(self, value: Any) -> None:
        self._value = value
        self._copy = None if isinstance(value, PLAIN) else _copy_of(value)

    def is_of(self, value: Any) -> bool:
        """Whether ``value`` is what it was; true where one cannot tell."""
        if self._copy is None:
            return self._value is value or _are_equal(self._value, value)
        if self._copy == _copy_of(value):
            return True
        try:
            return _are_equal(pickle.loads(self._copy), value)
        except Exception:  # a class's own __setstate__
            return False


def _copy_of(value: Any) -> bytes | None:
    """What a value is, as bytes; None where it cannot be had."""
    try:
        # A file's value has the row in it; the column has its name.
        return pickle.dumps(str(value) if isinstance(value, FieldFile) else value)
    except Exception:  # a class's own __reduce__
        return None


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays and the like compare by element
        return False


def watch(row: Any) -> None:
    """Remember the values of ``row``'s own fields, under ``SEEN`` in its ``__dict__``."""
    row.__dict__[SEEN] = {name: _seen(value) for name, value in _values(row).items()}


def _seen(value: Any) -> Any:
    """What is kept of a value: itself, if nothing can change in it."""
    return value if type(value) in PLAIN_TYPES else Snapshot(value)


def saved(row: Any, names: Collection[str] | None = None) -> None:
    """Take the present values of ``row`` for saved: all, or those of the fields ``names``."""
    seen = row.__dict__.get(SEEN)
    if seen is None:
        return
    for field in row._meta.concrete_fields:
        if names is None or field.name in names or field.attname in names:
            if field.attname in row.__dict__:
                seen[field.attname] = _seen(row.__dict__[field.attname])


def fields(row: Any) -> list[str]:
    """The fields of ``row`` that changed since ``watch()`` or the last save; the watch ends."""
    seen = row.__dict__.pop(SEEN, {})
    if not has_key(row):
        return []
    now = _values(row)
    return sorted(name for name in seen if name in now and not _is(seen[name], now[name]))


def _is(seen: Any, value: Any) -> bool:
    if isinstance(seen, Snapshot):
        return seen.is_of(value)
    return seen is value or _are_equal(seen, value)


@cache
def in_debug() -> bool:
    """Whether ``DEBUG`` is on; cached, since every check asks and settings look it up each time."""
    return bool(settings.DEBUG)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "DEBUG":
        in_debug.cache_clear()


setting_changed.connect(_forget)


def _values(row: Any) -> dict[str, Any]:
    data = row.__dict__
    names = (field.attname for field in row._meta.concrete_fields)
    return {name: data[name] for name in names if name in data}
