"""One attempt at a row, or at as many as its check gets at a time, on the caller's connection."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from django_fsmworker.graph import State
from django_fsmworker.runner.execution.check_run import BatchCheckRun, Errors, held
from django_fsmworker.runner.execution.guards import guard_outcome
from django_fsmworker.runner.execution.middleware import around_inline
from django_fsmworker.runner.execution.outcomes import OutcomeBuilder
from django_fsmworker.runner.execution.writing import send_after_commit, signals_of
from django_fsmworker.runner.inline import (
    age_of,
    attempt_inline,
    note_settled,
    unless_broken,
    write_inline,
)
from django_fsmworker.store import Fence, Outcome, Store, store_for
from django_fsmworker.store.failures import Failure
from django_fsmworker.testing.paths import see

WORKER = "test"


def attempt(row: Any) -> tuple[State | None, Errors]:
    """One attempt at ``row``, from where the claim left it to its settling.

    The state it moved to, if any, and what it failed with.
    """
    see(row)
    store, caught, origin = store_for(row._state.db), Errors(), str(row.state)
    outcome = attempt_inline(store, row, WORKER, caught)
    return _written(store, type(row), row.pk, origin, outcome, caught), caught


def attempt_together(rows: list[Any]) -> Errors:
    """One attempt at rows that a runner would give to their check in one call; what they failed
    with. As in a runner, a call that raises is made again with halves of the rows.
    """
    rows, errors = _undecided(rows)
    if len(rows) < 2:
        return errors + [error for row in rows for error in attempt(row)[1]]
    store, model = store_for(rows[0]._state.db), type(rows[0])
    fences = [Fence.of(row) for row in rows]
    caught: list[Errors] = [[] for _ in rows]
    builders = [OutcomeBuilder.of_row(row) for row in rows]
    ages = [age_of(store, row) for row in rows]
    run = BatchCheckRun(builders, ages, caught, around_inline(rows[0], WORKER))
    ended = unless_broken(store, run.run_here, caught)
    if isinstance(ended, Failure):
        fresh = held(store.alias, model, fences)
        left = [fresh[fence.pk] for fence in fences if fence.pk in fresh]
        middle = len(left) // 2
        return errors + [
            error
            for half in (left[:middle], left[middle:])
            if half
            for error in attempt_together(half)
        ]
    for outcome, own in zip(ended, caught, strict=True):
        _settle(store, outcome, own)
    return errors + [error for own in caught for error in own]


def _undecided(rows: list[Any]) -> tuple[list[Any], Errors]:
    """The rows that no guard decides; what the others failed with, which are settled."""
    errors, others = Errors(), []
    for row in rows:
        see(row)
        store, caught = store_for(row._state.db), Errors()
        outcome = guard_outcome(store, row, age_of(store, row), caught)
        if outcome is None:
            others.append(row)
        else:
            _settle(store, outcome, caught)
            errors += caught
    return others, errors


def _settle(store: Store, outcome: Outcome, caught: Errors) -> None:
    model, pk, origin = type(outcome.row), outcome.pk, outcome.source
    if outcome.written:
        note_settled(outcome, caught)
        _written(store, model, pk, origin, outcome, caught)
        return
    _written(store, model, pk, origin, write_inline(store, outcome, WORKER, caught), caught)


def _written(
    store: Store, model: Any, pk: Any, origin: str, outcome: Outcome | None, caught: Errors
) -> State | None:
    """Send the signals of an outcome that is written; returns the state that the row moved to."""
    for error in caught:
        error.add_note(f"({model._meta.label} {pk} failed in the state {origin!r}.)")
    if outcome is None:
        return None
    target: State | None = model.state_graph.get(outcome.target) if outcome.moved else None
    if target is not None:
        rows: QuerySet[Any] = QuerySet(model, using=store.alias)
        see(rows.only("state", "state_changed").get(pk=pk))
    send_after_commit(signals_of(model, [outcome], store.alias), store.alias)
    return target
