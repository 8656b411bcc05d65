"""Sweeping here and now: every state that has guards and no check, once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import QuerySet

from django_fsmworker.graph import State, Transition
from django_fsmworker.models.announcing import announce_moved
from django_fsmworker.models.keys import MOST_KEYS, batched, with_keys
from django_fsmworker.runner.guards.sweep import Sweep
from django_fsmworker.runner.settling.writing import tell
from django_fsmworker.store import Outcome, store_for
from django_fsmworker.store.sweeps import rows_in
from django_fsmworker.testing.attempting import WORKER, Errors
from django_fsmworker.testing.paths import see


def sweep(models: dict[Any, str]) -> tuple[list[Any], Errors]:
    """The rows that guards moved, or in which one failed, as they are now; and those errors."""
    found: list[Any] = []
    errors = Errors()
    for model, alias in models.items():
        for state in model.state_graph.states.values():
            if state.swept:
                _sweep(model, state, alias, found, errors)
    return found, errors


def _sweep(model: Any, state: State, alias: str, found: list[Any], errors: Errors) -> None:
    def moved(edge: Transition, keys: set[Any]) -> None:
        announce_moved(model, [(pk, state.name) for pk in keys], edge.target.name, alias, "guard")
        found.extend(_seen(model, alias, keys))

    def failed(outcome: Outcome, error: Exception) -> None:
        tell(model, [outcome], alias)
        found.extend(_seen(model, alias, [outcome.pk]))
        error.add_note(f"({model._meta.label} {outcome.pk} failed in the state {state.name!r}.)")
        errors.append(error)

    for row in rows_in(model, state, alias):
        see(row)
    one = Sweep(store_for(alias), model, state, WORKER, moved, failed)
    while not one.done:
        one.step()


def _seen(model: Any, alias: str, keys: Iterable[Any]) -> Iterator[Any]:
    """Where the rows are now goes into their paths."""
    rows: QuerySet[Any] = QuerySet(model, using=alias)
    for some in batched(list(keys), MOST_KEYS):
        for row in rows.filter(with_keys(model, some)):
            see(row)
            yield row
