"""Running rows here and now: the store claims and settles as for a runner, but nothing is started.

A check that raises is a failure of its row, as in a runner; the exception is then raised once more,
so that no test passes over it unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from django.db import DatabaseError, router, transaction
from django.db.models import QuerySet

from django_fsmworker.graph import State
from django_fsmworker.models.discovery import declaring_model, refuse_children, stator_models
from django_fsmworker.models.saving import stored
from django_fsmworker.runner.judging import judge_here, refuse_running_loop
from django_fsmworker.runner.writing import refused, tell, write
from django_fsmworker.store import Hold, Lane, Outcome, Store, store_for
from django_fsmworker.store.errors import is_refusal
from django_fsmworker.testing.paths import path, see, shown

LEASE = 3600.0
WORKER = "test"
SHOWN_STATES = 10


class NotIdle(AssertionError):
    """Rows were still due after as many attempts as the test allows."""


def run_until_idle(
    *models: Any, using: str | None = None, limit: int = 10_000, raise_failures: bool = True
) -> int:
    """Run what is due, the row due longest first, until nothing is; returns how many attempts.

    All models with a life, or only ``models``, on the database ``using`` or where the router
    writes them. What is due in the future stays there: ``travel()`` to it. Raises ``NotIdle``
    after ``limit`` attempts. A check that raises ends the run with its own exception once its
    failure is written; with ``raise_failures=False`` the failure is only on record, and its row
    goes the way of the graph: backoff, then ``fails_to``.
    """
    refuse_children(models)
    named = [declaring_model(model) for model in models] or stator_models()
    refuse_running_loop(named, "run_until_idle()")
    chosen = {model: using or router.db_for_write(model) for model in named}
    attempts = 0
    while (row := _claim_next(chosen)) is not None:
        if attempts >= limit:
            _refuse_to_go_on(row, limit)
        attempts += 1
        _attempt(row, raise_failures)
    return attempts


def step(row: Any, *, raise_failures: bool = True) -> State | None:
    """Run the check of ``row`` once, due or not; the ``State`` it moved to, or None.

    The check gets the row as the database has it, and ``row`` is loaded again afterwards, unless
    it was deleted. Failures are raised as by ``run_until_idle``.
    """
    model = type(row)
    refuse_running_loop([model], "step()")
    using = row._state.db or router.db_for_write(model, instance=row)
    present = stored(row, using)
    try:
        return _attempt(present.get(), raise_failures)
    finally:
        if present.exists():
            row.refresh_from_db(from_queryset=QuerySet(model, using=using))


def _claim_next(models: dict[Any, str]) -> Any:
    """Claim the row that has been due longest; None if nothing is due."""
    for model, state in _due_lanes(models):
        rows = store_for(models[model]).claim(model, [Lane(state, 1)], LEASE)
        if rows:
            return rows[0]
    return None


def _due_lanes(models: dict[Any, str]) -> Sequence[tuple[Any, str]]:
    """Model and state of every lane with a row that is due, the one due longest first."""
    due: dict[tuple[Any, str], float] = {}
    for alias in dict.fromkeys(models.values()):
        here = [model for model in models if models[model] == alias]
        lanes = {model: [Lane(state, 1) for state in model.state_graph.states] for model in here}
        due |= store_for(alias).peek(lanes)
    return [lane for lane in sorted(due, key=due.__getitem__) if due[lane] <= 0]


def _attempt(row: Any, raise_failures: bool) -> State | None:
    """One attempt at ``row``, from where the claim left it to its settling."""
    see(row)
    store, caught = store_for(row._state.db), list[BaseException]()
    atomic = type(row).state_graph.get(row.state).atomic
    with store.transaction() if atomic else nullcontext():
        outcome = _judge(store, row, caught, atomic)
        outcome, written = _write(store, outcome, caught)
        if atomic and not written:
            transaction.set_rollback(True, using=store.alias)
    for error in caught if raise_failures else []:
        error.add_note(f"({row._meta.label} {outcome.pk} failed in the state {outcome.source!r}.)")
        raise error
    if not written:
        return None
    if outcome.moved:
        see(
            QuerySet(type(row), using=store.alias).only("state", "state_changed").get(pk=outcome.pk)
        )
    tell(type(row), [outcome], store.alias)
    return type(row).state_graph.get(outcome.target) if outcome.moved else None


def _judge(store: Store, row: Any, caught: list[BaseException], atomic: bool) -> Outcome:
    """Run the check; inside a test's transaction, a database error in it must not break that.

    In an atomic state a failure takes back what the check wrote, as in a runner.
    """
    age = (store.now() - row.state_changed).total_seconds()
    connection = store.connection
    if not connection.in_atomic_block:
        return judge_here(row, age, caught)
    savepoint: Any = connection.savepoint()
    outcome = judge_here(row, age, caught)
    broken = any(isinstance(each, DatabaseError) for error in caught for each in _chain(error))
    if broken or (atomic and outcome.failure is not None):
        connection.set_rollback(False)
        connection.savepoint_rollback(savepoint)
    else:
        connection.savepoint_commit(savepoint)
    return outcome


def _write(store: Store, outcome: Outcome, caught: list[BaseException]) -> tuple[Outcome, set[Any]]:
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


def _chain(error: BaseException | None) -> list[BaseException]:
    """The exception and those it was raised from."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _refuse_to_go_on(row: Any, limit: int) -> None:
    model = type(row)
    store_for(row._state.db).hand_back(model, [Hold(row.pk, row.state_claim, row.state)])
    states = path(row)
    way = shown(states[-SHOWN_STATES:])
    raise NotIdle(
        f"After {limit} attempts {model._meta.label} {row.pk} is still due in the state "
        f"{str(row.state)!r}; its path: {'… → ' if len(states) > SHOWN_STATES else ''}{way}. "
        f"Let its states end or wait, or pass a higher limit to run_until_idle()."
    )
