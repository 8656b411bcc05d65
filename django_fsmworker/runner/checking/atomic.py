"""Check and transition in one transaction, for states that are declared ``atomic=True``.

The fenced write is the transaction's last statement. If it changes no row, or the check failed,
everything is rolled back: what the check wrote and the transition are committed once, or never.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import Error, InterfaceError, OperationalError

from django_fsmworker.runner.judging.interrupting import finish
from django_fsmworker.runner.settling.concluding import failed_attempt
from django_fsmworker.runner.settling.writing import write
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.store import Outcome, Store
from django_fsmworker.store.errors import is_contention, is_outage
from django_fsmworker.store.failures import Failure


class _RollBack(Exception):
    """Ends the transaction without committing it, and carries what is to be told."""

    def __init__(self, outcome: Outcome | None) -> None:
        super().__init__()
        self.outcome = outcome


def undone_if_failed(store: Store, judge: Callable[[], Outcome]) -> Outcome:
    """``judge()`` in a transaction (or savepoint) of its own that a failure rolls back."""
    try:
        with store.transaction():
            outcome = judge()
            if outcome.failure is not None:
                raise _RollBack(outcome)
            return outcome
    except _RollBack as rolled_back:
        return rolled_back.outcome or outcome


def judge_and_write(attempt: Attempt, judge: Callable[[], Outcome], worker: str) -> Outcome | None:
    """Run the check and write its outcome; None if that counts for nothing.

    A failure comes back unwritten: it is recorded like any other, outside the rolled-back
    transaction. Nobody interrupts the attempt once its fenced write begins.
    """
    try:
        with attempt.store.transaction():
            outcome = judge()
            if outcome.failure is not None or finish(attempt):
                raise _RollBack(outcome)
            if not write(attempt.store, attempt.model, [outcome], worker):
                raise _RollBack(None)
    except _RollBack as rolled_back:
        return rolled_back.outcome
    except Error as error:
        if _came_to_nothing(error):
            return None
        # Refused: the write or, at its end, the transaction.
        return failed_attempt(attempt, Failure.of(error))
    outcome.written = True
    return outcome


def _came_to_nothing(error: Error) -> bool:
    """The database went away or could not decide between two transactions: try again."""
    known = isinstance(error, OperationalError | InterfaceError)
    return is_contention(error) or (known and is_outage(error))
