"""Instance attributes that remember what was loaded, so that a save can tell what was changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db.models.query_utils import DeferredAttribute

from django_fsmworker.graph import State

_BEFORE = "_state_before"
_LOADING = "_state_loading"


class TrackedAttribute(DeferredAttribute):
    """Keeps the loaded value when another is assigned. Loading costs nothing extra.

    A deferred value is loaded by the assignment: it is what a save will compare with.
    """

    def __set__(self, instance: Any, value: Any) -> None:
        data, name = instance.__dict__, self.field.attname
        if name not in data and not instance._state.adding and _LOADING not in data:
            self.__get__(instance)
        if name in data:
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
    """A state is a plain ``str``; assigning a name that the graph does not declare raises at once.

    The first value is taken as it comes: a row may be in a state that this build does not know.
    """

    def __set__(self, instance: Any, value: Any) -> None:
        graph: Any = getattr(self.field, "graph", None)
        if graph is not None and self._is_new(instance, value):
            value = graph.get(value)
        super().__set__(instance, value.name if isinstance(value, State) else value)

    def _is_new(self, instance: Any, value: Any) -> bool:
        """Whether somebody assigns another state than the row has, and it was not just loaded."""
        data, name = instance.__dict__, self.field.attname
        if _LOADING in data or (name not in data and instance._state.adding):
            return False
        return isinstance(value, State) or value != data.get(name)


@contextmanager
def loading(instance: Any) -> Iterator[None]:
    """What is assigned in here comes from the database and is taken as it is."""
    outermost = _LOADING not in instance.__dict__
    instance.__dict__[_LOADING] = True
    try:
        yield
    finally:
        if outermost:
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
    before = instance.__dict__.pop(_BEFORE, None)
    if before is not None and names is not None:
        instance.__dict__[_BEFORE] = {name: before[name] for name in before if name not in names}
