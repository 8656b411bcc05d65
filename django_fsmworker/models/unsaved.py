"""In DEBUG: which fields of a row were changed and not saved."""

from __future__ import annotations

from typing import Any

_SEEN = "_state_seen"


def watch(row: Any) -> None:
    """From now on, count changes of ``row``'s own fields."""
    row.__dict__[_SEEN] = _values(row)


def saved(row: Any) -> None:
    """``row`` was saved; what it holds now is in the database."""
    if _SEEN in row.__dict__:
        watch(row)


def fields(row: Any) -> list[str]:
    """The fields that hold another value than when ``row`` was loaded or last saved."""
    seen = row.__dict__.pop(_SEEN, {})
    if row.pk is None:
        return []
    now = _values(row)
    return sorted(name for name in seen if name in now and now[name] != seen[name])


def _values(row: Any) -> dict[str, Any]:
    data = row.__dict__
    names = (field.attname for field in row._meta.concrete_fields)
    return {name: data[name] for name in names if name in data}
