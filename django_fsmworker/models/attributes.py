"""Instance attributes that remember what was loaded, so that a save can tell what was changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models.query_utils import DeferredAttribute

from django_fsmworker.graph import State

_BEFORE = "_state_before"
_LOADING = "_state_loading"


class TrackedAttribute(DeferredAttribute):
    """Keeps the loaded value when another is assigned. Loading costs nothing extra."""

    def __set__(self, instance: Any, value: Any) -> None:
        data, name = instance.__dict__, self.field.attname
        if name in data:
            data.setdefault(_BEFORE, {}).setdefault(name, data[name])
        data[name] = value


class StateAttribute(TrackedAttribute):
    """A state is a plain ``str``; assigning a name that the graph does not declare raises at once.

    The first value is taken as it comes: a row may be in a state that this build does not know.
    """

    def __set__(self, instance: Any, value: Any) -> None:
        if isinstance(value, State):
            value = value.name
        data = instance.__dict__
        checked = self.field.attname in data and _LOADING not in data
        graph = getattr(self.field, "graph", None)
        if checked and graph is not None:
            value = graph.get(value).name
        super().__set__(instance, value)


@contextmanager
def loading(instance: Any) -> Iterator[None]:
    """What is assigned in here comes from the database and is taken as it is."""
    instance.__dict__[_LOADING] = True
    try:
        yield
    finally:
        instance.__dict__.pop(_LOADING, None)


def changes(instance: Any) -> dict[str, Any]:
    """The state columns that hold another value than the one loaded."""
    data = instance.__dict__
    before = data.get(_BEFORE, {})
    return {name: data[name] for name, was in before.items() if data.get(name) != was}


def as_loaded(instance: Any, name: str) -> Any:
    """The value ``name`` had when the row was loaded or last saved; KeyError if it was deferred."""
    data = instance.__dict__
    before = data.get(_BEFORE, {})
    return before[name] if name in before else data[name]


def forget_changes(instance: Any, names: Any = None) -> None:
    """From here on the present values count as loaded; with ``names`` only theirs."""
    before = instance.__dict__.get(_BEFORE)
    if before is None:
        return
    for name in list(before) if names is None else names:
        before.pop(name, None)
