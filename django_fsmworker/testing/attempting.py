"""One attempt at a row, or at as many as its check gets at a time, on the caller's connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from django.db import DatabaseError, transaction
from django.db.models import QuerySet

from django_fsmworker.graph import State
from django_fsmworker.runner.guards.deciding import by_guard
from django_fsmworker.runner.judging.loading_again import held
from django_fsmworker.runner.judging.many import judge_batch_here
from django_fsmworker.runner.judging.one import judge_here
from django_fsmworker.runner.settling.writing import refused, tell, write
from django_fsmworker.store import Hold, Outcome, Store, store_for
from django_fsmworker.store.errors import chain, is_refusal
from django_fsmworker.store.failures import Failure
from django_fsmworker.testing.paths import see

WORKER = "test"

Errors = list[BaseException]
Judged = TypeVar("Judged")


def attempt(row: Any) -> tuple[State | None, Errors]:
    """One attempt at ``row``, from where the claim left it to its settling.

    The state it moved to, if any, and what it failed with.
    """
    see(row)
    store, caught = store_for(row._state.db), Errors()
    atomic = type(row).state_graph.get(row.state).atomic
    with store.transaction() if atomic else nullcontext():
        outcome = _judged_safely(
            store,
            lambda: _judge(store, row, caught),
            lambda judged: _broke_transaction(caught) or (atomic and judged.failure is not None),
        )
        target, written = _settle(store, outcome, caught)
        if atomic and not written:
            transaction.set_rollback(True, using=store.alias)
    return target, caught


def attempt_together(rows: list[Any]) -> Errors:
    """One attempt at rows that a runner would give to their check in one call; what they failed
    with. As in a runner, a call that raises is made again with halves of the rows.
    """
    rows, errors = _undecided(rows)
    if len(rows) < 2:
        return errors + [error for row in rows for error in attempt(row)[1]]
    store, model, holds = store_for(rows[0]._state.db), type(rows[0]), [_hold(row) for row in rows]
    caught: list[Errors] = [[] for _ in rows]
    judged = _judged_safely(
        store,
        lambda: judge_batch_here(rows, [_age(store, row) for row in rows], caught),
        lambda judged: any(map(_broke_transaction, caught)),
    )
    if isinstance(judged, Failure):
        fresh = held(store.alias, model, holds)
        left = [fresh[hold.pk] for hold in holds if hold.pk in fresh]
        middle = len(left) // 2
        return errors + [
            error
            for half in (left[:middle], left[middle:])
            if half
            for error in attempt_together(half)
        ]
    for outcome, own in zip(judged, caught, strict=True):
        _settle(store, outcome, own)
    return errors + [error for own in caught for error in own]


def _undecided(rows: list[Any]) -> tuple[list[Any], Errors]:
    """The rows that no guard decides; what the others failed with, which are settled."""
    errors, others = Errors(), []
    for row in rows:
        see(row)
        store, caught = store_for(row._state.db), Errors()
        outcome = by_guard(store, row, _age(store, row), caught)
        if outcome is None:
            others.append(row)
        else:
            _settle(store, outcome, caught)
            errors += caught
    return others, errors


def _judge(store: Store, row: Any, caught: Errors) -> Outcome:
    age = _age(store, row)
    return by_guard(store, row, age, caught) or judge_here(row, age, caught)


def _age(store: Store, row: Any) -> float:
    age: float = (store.now() - row.state_changed).total_seconds()
    return age


def _hold(row: Any) -> Hold:
    return Hold(row.pk, row.state_claim, row.state)


def _judged_safely(
    store: Store, judge: Callable[[], Judged], is_undone: Callable[[Judged], bool]
) -> Judged:
    """Run the check; inside a test's transaction, a database error in it must not break that.

    In an atomic state a failure takes back what the check wrote, as in a runner.
    """
    connection = store.connection
    if not connection.in_atomic_block:
        return judge()
    savepoint: Any = connection.savepoint()
    judged = judge()
    if is_undone(judged):
        connection.set_rollback(False)
        connection.savepoint_rollback(savepoint)
    else:
        connection.savepoint_commit(savepoint)
    return judged


def _settle(store: Store, outcome: Outcome, caught: Errors) -> tuple[State | None, set[Any]]:
    """Write the outcome and tell of it; the state that the row moved to, and what was written."""
    model = type(outcome.row)
    outcome, written = _write(store, outcome, caught)
    note = f"({model._meta.label} {outcome.pk} failed in the state {outcome.source!r}.)"
    for error in caught:
        error.add_note(note)
    if not written:
        return None, written
    if outcome.moved:
        rows: QuerySet[Any] = QuerySet(model, using=store.alias)
        see(rows.only("state", "state_changed").get(pk=outcome.pk))
    tell(model, [outcome], store.alias)
    return (model.state_graph.get(outcome.target) if outcome.moved else None), written


def _write(store: Store, outcome: Outcome, caught: Errors) -> tuple[Outcome, set[Any]]:
    """Settle; what the database refuses for its data has failed where it was, as in a runner."""
    model = type(outcome.row)
    try:
        with store.transaction():
            return outcome, write(store, model, [outcome], WORKER)
    except DatabaseError as error:
        if not is_refusal(error):
            raise
        caught.append(error)
        outcome = refused(outcome, error)
    with store.transaction():
        return outcome, write(store, model, [outcome], WORKER)


def _broke_transaction(caught: Errors) -> bool:
    return any(isinstance(each, DatabaseError) for error in caught for each in chain(error))
