"""What an attempt comes to when it is over, however it ended and whoever ran it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from django_fsmworker.runner.attempt import Attempt
from django_fsmworker.runner.judging import failed
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.outcomes import Kind, Outcome

LEFT_OPEN = Failure(
    "django_fsmworker.exceptions.TransactionLeftOpen",
    "The check left a transaction open, which was rolled back; end it with commit() or use "
    "transaction.atomic().",
)

MOST_LOSSES, MOST_ROWS = 5, 1000


def concluded(attempt: Attempt, outcome: Outcome | None) -> Outcome | None:
    """``outcome``, unless the attempt was interrupted: its flags decide, not what it returned.

    None counts for nothing. Called after ``finish``, when nobody interrupts any more.
    """
    if attempt.cancelled:
        return None
    return overrun(attempt) if attempt.overran else outcome


def failed_attempt(attempt: Attempt, failure: Failure) -> Outcome:
    """The outcome of an attempt that ended in ``failure`` now."""
    age = attempt.age(time.monotonic())
    return failed(attempt.row, attempt.pk, attempt.token, attempt.state, failure, age)


def overrun(attempt: Attempt) -> Outcome:
    """The outcome of a check that did not end within its deadline."""
    ran = time.monotonic() - (attempt.started or time.monotonic())
    failure = Failure(
        "django_fsmworker.exceptions.TimeoutError",
        f"The check did not end within its deadline; it ran for {ran:.1f} s.",
        noted=attempt.noted,
    )
    outcome = failed_attempt(attempt, failure)
    outcome.kind = Kind.TIMED_OUT
    return outcome


class Losses:
    """Rows whose check lost its database connection: an interruption, the first few times.

    A row whose checks lose their connection again and again does that to it itself.
    """

    def __init__(self) -> None:
        self._rows: Counter[tuple[Any, Any]] = Counter()

    def is_outage(self, attempt: Attempt) -> bool:
        """Note a loss; False once it is the row's own doing."""
        row = attempt.model, attempt.pk
        if len(self._rows) >= MOST_ROWS:
            self._rows.clear()
        self._rows[row] += 1
        if self._rows[row] < MOST_LOSSES:
            return True
        del self._rows[row]
        return False
