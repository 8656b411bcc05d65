"""In DEBUG: which fields of a row were changed and not saved."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from django_fsmworker.models.keys import has_key

_SEEN = "_state_seen"


def watch(row: Any) -> None:
    """From now on, count changes of ``row``'s own fields; nothing unless ``DEBUG`` is on."""
    if _in_debug():
        row.__dict__[_SEEN] = _values(row)


def is_watched(row: Any) -> bool:
    """Whether they are counted."""
    return _SEEN in row.__dict__


def saved(row: Any, names: Collection[str] | None = None) -> None:
    """``row`` was saved, or only the fields in ``names``: what they hold is in the database."""
    seen = row.__dict__.get(_SEEN)
    if seen is None:
        return
    for field in row._meta.concrete_fields:
        if names is None or field.name in names or field.attname in names:
            if field.attname in row.__dict__:
                seen[field.attname] = row.__dict__[field.attname]


def fields(row: Any) -> list[str]:
    """The fields that hold another value than when ``row`` was loaded or last saved."""
    seen = row.__dict__.pop(_SEEN, {})
    if not has_key(row):
        return []
    now = _values(row)
    return sorted(name for name in seen if name in now and now[name] != seen[name])


@cache
def _in_debug() -> bool:
    """Looked up once, since every check asks; settings look for themselves each time."""
    return bool(settings.DEBUG)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "DEBUG":
        _in_debug.cache_clear()


setting_changed.connect(_forget)


def _values(row: Any) -> dict[str, Any]:
    data = row.__dict__
    names = (field.attname for field in row._meta.concrete_fields)
    return {name: data[name] for name in names if name in data}
