"""What an attempt comes to when it is over, however it ended and whoever ran it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.judging.one import failed
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.runner.work.batch import Again, Batch, Result, Work
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.outcomes import Kind, Outcome

logger = logging.getLogger(__name__)

LEFT_OPEN = Failure(
    "django_fsmworker.exceptions.TransactionLeftOpen",
    "The check left a transaction open, which was rolled back; end it with commit() or use "
    "transaction.atomic().",
)

MOST_LOSSES, MOST_ROWS = 5, 10_000


def concluded(work: Work, result: Result) -> Result:
    """``result``, unless the check was interrupted: the flags decide, not what it returned.

    None counts for nothing. Called after ``finish``, when nobody interrupts any more.
    """
    if work.cancelled:
        return None
    return of_overrun(work) if work.overran else result


def of_overrun(work: Work) -> Result:
    """What work that overran its deadline comes to; a batch counts no failure."""
    return Again.IN_HALVES if isinstance(work, Batch) else overrun(work)


def of_failure(work: Work, failure: Failure) -> Result:
    """What work that ended in ``failure`` now comes to."""
    return halved(work, failure) if isinstance(work, Batch) else failed_attempt(work, failure)


def halved(batch: Batch, failure: Failure) -> Again:
    """Nobody knows which row is to blame: say why they are run again."""
    logger.warning(
        "The check of %s %s in the state %s came to nothing (%s: %s); they run again in halves.",
        batch.model._meta.label,
        batch.pk,
        batch.state,
        failure.error,
        failure.message.partition("\n")[0],
        extra={"action": "halved", "model": batch.model._meta.label, "pk": batch.pk},
    )
    return Again.IN_HALVES


def failed_attempt(attempt: Attempt, failure: Failure) -> Outcome:
    """The outcome of an attempt that ended in ``failure`` now."""
    age = attempt.age(time.monotonic())
    return failed(attempt.row, attempt.pk, attempt.token, attempt.state, failure, age)


def overrun(attempt: Attempt) -> Outcome:
    """The outcome of a check that did not end within its deadline."""
    outcome = failed_attempt(attempt, overran(attempt, noted=attempt.noted))
    outcome.kind = Kind.TIMED_OUT
    return outcome


def overran(work: Work, *, noted: bool = False) -> Failure:
    """What is put on record about a check that did not end within its deadline."""
    ran = time.monotonic() - (work.started or time.monotonic())
    rows = f" of {len(work.attempts)} rows" if isinstance(work, Batch) else ""
    return Failure(
        "django_fsmworker.exceptions.TimeoutError",
        f"The check{rows} did not end within its deadline; it ran for {ran:.1f} s.",
        noted=noted,
    )


class Losses:
    """Rows whose check lost its database: an interruption, the first few times.

    A row whose checks lose it again and again, and never end, may well do that to it.
    """

    def __init__(self, outages: Outages) -> None:
        self.outages = outages
        self._rows: Counter[tuple[Any, Any]] = Counter()

    def explains(self, work: Work, failure: Failure) -> bool:
        """Whether the check met an outage; a lock that lasts is one, too."""
        return failure.lost or (failure.locked and self.outages.is_away(work.store.alias))

    def is_outage(self, attempt: Attempt) -> bool:
        """Note a loss; False once it is the row's own doing."""
        self.outages.doubt(attempt.store.alias)
        row = attempt.model, attempt.pk
        if len(self._rows) >= MOST_ROWS:
            self._rows.clear()
        self._rows[row] += 1
        if self._rows[row] < MOST_LOSSES:
            return True
        del self._rows[row]
        return False

    def known(self, attempt: Attempt) -> bool:
        """Whether the row's last check lost its connection: the next one is not in a batch."""
        return bool(self._rows) and (attempt.model, attempt.pk) in self._rows

    def forget(self, attempt: Attempt) -> None:
        """The row's check has ended and did not lose its database."""
        if self._rows:
            self._rows.pop((attempt.model, attempt.pk), None)

    def seconds_left(self, work: Work, deadline: float) -> float:
        """Until its deadline; where nobody can end a wait for the database, that does not count."""
        alias, now = work.store.alias, time.monotonic()
        since = work.started or now
        if not work.store.interruptible:
            since = now if self.outages.is_away(alias) else max(since, self.outages.back_at(alias))
        return since + deadline - now

    def why_ended(self, work: Work) -> str:
        """The flag of a check past its deadline: through an outage it may have waited in vain."""
        alias, since = work.store.alias, work.started or 0.0
        waited = self.outages.is_away(alias) or since < self.outages.away_at(alias)
        return "cancelled" if waited else "overran"
