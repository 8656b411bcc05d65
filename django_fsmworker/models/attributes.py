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

    def __init__(self, field: Any) -> None:
        super().__init__(field)
        self._name: str = field.attname

    def __set__(self, instance: Any, value: Any) -> None:
        data, name = instance.__dict__, self._name
        if name not in data:
            if instance._state.adding or _LOADING in data:
                data[name] = value
                return
            self.__get__(instance)
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
        if not self._is_first(instance):
            graph: Any = getattr(self.field, "graph", None)
            known = not isinstance(value, State) and value == instance.__dict__.get(self._name)
            if graph is not None and not known:
                value = graph.get(value)
        super().__set__(instance, value.name if isinstance(value, State) else value)

    def _is_first(self, instance: Any) -> bool:
        """Whether the value was just loaded, or is the one that a new row begins with."""
        data = instance.__dict__
        return _LOADING in data or (self._name not in data and instance._state.adding)


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
