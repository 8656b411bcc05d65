"""Check and transition in one transaction, for states that are declared ``atomic=True``.

The fenced write is the transaction's last statement. If it changes no row, or the check failed,
everything is rolled back: what the check wrote and the transition are committed once, or never.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import Error, InterfaceError, OperationalError

from django_fsmworker.deadline import DEADLINE
from django_fsmworker.runner.execution.check_run import run_of
from django_fsmworker.runner.execution.middleware import AttemptMiddleware
from django_fsmworker.runner.execution.outcomes import failed_outcome
from django_fsmworker.runner.execution.writing import write
from django_fsmworker.runner.in_flight.attempts import Attempt, finish
from django_fsmworker.store import Outcome, Store
from django_fsmworker.store.errors import is_contention, is_outage
from django_fsmworker.store.failures import Failure


class _RollBack(Exception):
    """Ends the transaction without committing it, and carries the outcome that is left."""

    def __init__(self, outcome: Outcome | None) -> None:
        super().__init__()
        self.outcome = outcome


def run_and_write(
    store: Store,
    model: Any,
    run: Callable[[], Outcome],
    worker: str,
    interrupted: Callable[[], bool] = lambda: False,
    patience: float | None = None,
) -> Outcome | None:
    """Run a check and write its outcome in one transaction (or savepoint); None if superseded.

    ``patience`` is as in ``Store.transaction()``.
    A failure comes back unwritten: it is recorded like any other, outside the rolled-back
    transaction. Raises what the database raises at the write or the commit.
    """
    try:
        with store.transaction(patience):
            outcome = run()
            if outcome.failure is not None or interrupted():
                raise _RollBack(outcome)
            if not write(store, model, [outcome], worker):
                raise _RollBack(None)
    except _RollBack as rolled_back:
        return rolled_back.outcome
    outcome.written = True
    return outcome


def run_atomically(
    attempt: Attempt, worker: str, middleware: AttemptMiddleware | None
) -> Outcome | None:
    """The outcome of a claimed row in an atomic state; None if the attempt counts for nothing.

    Nobody interrupts the attempt once its fenced write begins.
    """
    run = run_of(attempt, middleware).run
    try:
        return run_and_write(
            attempt.store,
            attempt.model,
            run,  # type: ignore[arg-type]
            worker,
            lambda: finish(attempt),
            # Whoever cannot begin in time has not overrun: another check has SQLite's write lock.
            (attempt.state.deadline or DEADLINE.get()) / 2,
        )
    except Error as error:
        if _came_to_nothing(error) or attempt.store.mismatch(attempt.model, error):
            return None
        # Refused: the write or, at its end, the transaction.
        return failed_outcome(attempt, Failure.of(error))


def _came_to_nothing(error: Error) -> bool:
    """The database went away or could not decide between two transactions: try again."""
    known = isinstance(error, OperationalError | InterfaceError)
    return is_contention(error) or (known and is_outage(error))
