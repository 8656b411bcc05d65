"""Running rows here and now: the store claims and settles as for a runner, but nothing is started.

A check that raises is a failure of its row, as in a runner; the exception is then raised once more,
so that no test passes over it unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import router
from django.db.models import Model, QuerySet

from django_fsmworker import clock
from django_fsmworker.graph import State, Transition
from django_fsmworker.models.companions import target_of
from django_fsmworker.models.discovery import refuse_not_run, stator_models
from django_fsmworker.models.keys import MOST_KEYS, declaring_model, portions, stored, with_keys
from django_fsmworker.models.served import with_companions
from django_fsmworker.models.telling import send_state_changed
from django_fsmworker.runner.execution.check_run import Errors, refuse_running_loop
from django_fsmworker.runner.execution.writing import send_after_commit, signals_of
from django_fsmworker.runner.guards.sweep import Sweep
from django_fsmworker.store import Fence, Lane, Outcome, store_for
from django_fsmworker.store.fence import lane_key, taken_over
from django_fsmworker.store.sweeps import rows_in
from django_fsmworker.testing.attempting import WORKER, attempt, attempt_together
from django_fsmworker.testing.paths import path, see, shown

LEASE = 3600.0
SHOWN_STATES = 10


class NotIdle(AssertionError):
    """Rows were still due after as many attempts as the test allows."""


def run_until_idle(
    *models: Any, using: str | None = None, limit: int = 10_000, raise_failures: bool = True
) -> int:
    """Run what is due, the row due longest first, until nothing is; returns how many attempts.

    Whenever nothing is due, states that have guards and no check are swept: each row that a guard
    moves counts as an attempt.

    All models with a life, or only ``models``, on the database ``using`` or where the router
    writes them. A check of a state with ``batch`` gets as many rows as are due, and each counts as
    an attempt. What is due in the future stays there: ``travel()`` to it. Raises ``NotIdle`` after
    ``limit`` attempts. A check that raises ends the run with its own exception once its failure is
    written; with ``raise_failures=False`` the failure is only on record, and its row goes the way
    of the graph: backoff, then ``fails_to``.
    """
    _refuse_rows(models)
    refuse_not_run(models)
    named = with_companions([declaring_model(model) for model in models] or stator_models())
    refuse_running_loop(named, "run_until_idle()")
    chosen = {model: using or router.db_for_write(target_of(model)) for model in named}
    attempts = 0
    while True:
        while rows := _claim_next(chosen, limit - attempts):
            if attempts >= limit:
                _give_back(rows[0])
                _refuse_to_go_on(rows[0], limit, "is still due")
            attempts += len(rows)
            calls = [attempt_together(some) for some in _by_call(rows)]
            _raise_first([error for errors in calls for error in errors], raise_failures)
        swept, errors = sweep(chosen)
        _raise_first(errors, raise_failures)
        attempts += len(swept)
        if not swept:
            return attempts
        if attempts > limit:
            _refuse_to_go_on(swept[-1], limit, "is still moved by guards,")


def _refuse_rows(models: Iterable[Any]) -> None:
    for each in models:
        if isinstance(each, Model):
            raise TypeError(
                f"run_until_idle() takes models, and {type(each).__name__} {each.pk} is a row; "
                f"give its model, or use step(row)."
            )


def step(row: Any, *, raise_failures: bool = True) -> State | None:
    """Ask the guards of ``row``, or run its check, due or not; the ``State`` it moved to, or None.

    The check gets the row as the database has it, and ``row`` is loaded again afterwards, unless
    it was deleted. Failures are raised as by ``run_until_idle``.
    """
    model = type(row)
    refuse_running_loop([model], "step()")
    using = row._state.db or router.db_for_write(model, instance=row)
    present = stored(row, using)
    try:
        target, errors = attempt(present.get())
        _raise_first(errors, raise_failures)
        return target
    finally:
        if present.exists():
            row.refresh_from_db(from_queryset=QuerySet(model, using=using))


def _claim_next(models: dict[Any, str], most: int) -> list[Any]:
    """Claim the row that has been due longest, and as many with it as its check gets at a time."""
    for model, state in _due_lanes(models):
        number = max(1, min(model.state_graph.states[state].batch or 1, most))
        lane = Lane(state, number, key=lane_key(model))
        rows = store_for(models[model]).claim(model, [lane], LEASE)
        if rows:
            return rows
    return []


def _by_call(rows: list[Any]) -> list[list[Any]]:
    """As a runner would run them: those with a history alone, the others together."""
    alone = [row for row in rows if row.state_failures or taken_over(row.state_claim)]
    others = [row for row in rows if row not in alone]
    return [[row] for row in alone] + ([others] if others else [])


def _raise_first(errors: Errors, raise_failures: bool) -> None:
    if errors and raise_failures:
        raise errors[0]


def _due_lanes(models: dict[Any, str]) -> Sequence[tuple[Any, str]]:
    """Model and state of every lane with a row that is due, the one due longest first."""
    due: dict[tuple[Any, str], float] = {}
    for alias in dict.fromkeys(models.values()):
        here = [model for model in models if models[model] == alias]
        lanes = {
            model: [Lane(state, 1, key=lane_key(model)) for state in model.state_graph.states]
            for model in here
        }
        due |= store_for(alias).peek(lanes)
    return [lane for lane in sorted(due, key=due.__getitem__) if due[lane] <= 0]


def _give_back(row: Any) -> None:
    store_for(row._state.db).hand_back(type(row), [Fence.of(row)])


def _refuse_to_go_on(row: Any, limit: int, is_busy: str) -> None:
    states = path(row)
    way = shown(states[-SHOWN_STATES:])
    raise NotIdle(
        f"After {limit} attempts {row._meta.label} {row.pk} {is_busy} in the state "
        f"{str(row.state)!r}; its path: {'… → ' if len(states) > SHOWN_STATES else ''}{way}. "
        f"Let its states end or wait, or pass a higher limit to run_until_idle()."
    )


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
        send_state_changed(
            model, [(pk, state.name) for pk in keys], edge.target.name, alias, "guard"
        )
        found.extend(_seen(model, alias, keys))

    def failed(outcome: Outcome, error: Exception) -> None:
        send_after_commit(signals_of(model, [outcome], alias), alias)
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
    for some in portions(list(keys), MOST_KEYS):
        for row in rows.filter(with_keys(model, some)):
            see(row)
            yield row


@contextmanager
def travel(
    by: timedelta | None = None, *, seconds: float | None = None
) -> Iterator[Callable[..., None]]:
    """Move the databases' clock, as rows are due, leased and expired by it, until the block ends.

    ``by`` is a ``timedelta``, or give ``seconds``; negative ones go back. What the block gets is a
    function that travels further: ``with travel(seconds=60) as further: … further(seconds=30)``.
    It works as a decorator of a test, too. Only this process travels, and only what asks
    ``django_fsmworker``: ``timezone.now()`` stays.
    """
    before = clock.travelled()
    _move(by, seconds=seconds)
    try:
        yield _move
    finally:
        clock.travel(before - clock.travelled())


def _move(by: timedelta | None = None, *, seconds: float | None = None) -> None:
    if (by is None) == (seconds is None):
        raise TypeError("travel() takes either a timedelta or seconds: travel(seconds=60).")
    clock.travel(timedelta(seconds=seconds) if seconds is not None else by or timedelta())
