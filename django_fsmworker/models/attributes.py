"""Instance attributes that remember what was loaded, so that a save can tell what was changed."""

from __future__ import annotations

from contextlib import ExitStack
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
        data, name = instance.__dict__, self._name
        if name not in data and instance._state.adding:  # what a new row begins with
            data[name] = value.name if isinstance(value, State) else value
            return
        if _LOADING not in data:
            graph: Any = getattr(self.field, "graph", None)
            known = not isinstance(value, State) and value == data.get(name)
            if graph is not None and not known:
                value = graph.get(value)
        super().__set__(instance, value.name if isinstance(value, State) else value)


class loading:
    """``with loading(instance):`` what is assigned in here comes from the database, taken as it is.

    A class: each row that is saved enters it, and a generator takes three times as long.
    """

    def __init__(self, instance: Any) -> None:
        self._data: dict[str, Any] = instance.__dict__

    def __enter__(self) -> None:
        self._outermost = self._data.setdefault(_LOADING, self) is self

    def __exit__(self, *exception: object) -> None:
        if self._outermost:
            self._data.pop(_LOADING, None)


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
