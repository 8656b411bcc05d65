"""What a runner's log tells of attempts that go wrong: the lines, their fields, and no flood.

Of what goes wrong again and again for the same cause, the first is told; the others are counted,
and summed up once a minute.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from django_fsmworker.logs import logger_for
from django_fsmworker.runner.execution.flood import Flood
from django_fsmworker.runner.in_flight.attempts import Attempt, Batch, Work, work_fields
from django_fsmworker.runner.in_flight.log_fields import row_fields
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.fence import Outcome

logger = logger_for(__name__)

# How many failures for good of one cause are told in a window, each with its traceback.
MOST_FOR_GOOD = 10


class Cause(NamedTuple):
    """Why lines are about the same: only one of them is told."""

    model: str
    state: str
    what: str
    error: str = ""
    for_good: bool = False


class AttemptLog:
    """The lines about attempts of the runner ``worker``.

    ``name`` is that of a logger of the project's own for what checks come to. Only while there is
    anything ``untold`` has ``sum_up`` anything to do.
    """

    def __init__(self, worker: str = "", name: str | None = None) -> None:
        self.worker = worker
        self._logger = logger if name is None else logger_for(name)
        self._flood = Flood()
        self.untold = self._flood.windows

    def failed(self, pairs: Iterable[tuple[Attempt | None, Outcome]]) -> None:
        """A line for each that failed: a warning, or an error with the traceback if for good.

        So error trackers, which take errors, tell of a row once and not at every try.
        """
        for attempt, outcome in pairs:
            if outcome.failure is not None:
                self._failed(attempt, outcome, outcome.failure)

    def _failed(self, attempt: Attempt | None, outcome: Outcome, failure: Failure) -> None:
        label, for_good = type(outcome.row)._meta.label, outcome.failed_for_good
        # What follows the first line may show the row's data.
        text = failure.message.partition("\n")[0]
        cause = Cause(label, outcome.source, "failed", failure.error, for_good)
        latest = outcome.pk, text
        if not self._flood.lets_pass(cause, latest, MOST_FOR_GOOD if for_good else 1):
            return
        words = label, outcome.pk, outcome.source, failure.error, text
        extra = {
            "action": outcome.ending.value,
            **row_fields(
                [outcome.row],
                outcome.pk,
                outcome.source,
                self.worker,
                attempt=outcome.attempt,
                trace="" if attempt is None else attempt.trace,
            ),
        }
        if for_good:
            self._logger.error(
                "%s %s failed in the state %s and is not tried again: %s: %s",
                *words,
                exc_info=failure.exception,
                extra=extra,
            )
        else:
            self._logger.warning("%s %s failed in the state %s: %s: %s", *words, extra=extra)

    def interrupted(self, work: Work, flag: str) -> None:
        """A check is being ended, for the reason that ``flag`` names."""
        action, reason = (
            ("overdue", "overran its deadline")
            if flag == "overran"
            else ("cancelled", "was cancelled")
        )
        label = work.model._meta.label
        if self._flood.lets_pass(Cause(label, work.state.name, action), (work.pk, reason)):
            logger.warning(
                "The check of %s %s in the state %s %s.",
                label,
                work.pk,
                work.state,
                reason,
                extra={"action": action, **work_fields(work, self.worker)},
            )

    def halved(self, batch: Batch, failure: Failure) -> None:
        """Rows are run again in halves, since nobody knows which of them is to blame."""
        label, text = batch.model._meta.label, failure.message.partition("\n")[0]
        cause = Cause(label, batch.state.name, "halved", failure.error)
        if self._flood.lets_pass(cause, (batch.pk, text)):
            logger.warning(
                "The check of %s %s in the state %s came to nothing (%s: %s); they run again in "
                "halves.",
                label,
                batch.pk,
                batch.state,
                failure.error,
                text,
                extra={"action": "halved", **work_fields(batch, self.worker)},
            )

    def undecided(self, work: Work, error: BaseException) -> None:
        """The engine could not make out what a check has come to."""
        logger.error(
            "The outcome of a check could not be made out.",
            exc_info=error,
            extra={"action": "outcome", **work_fields(work, self.worker)},
        )

    def sum_up(self, *, at_the_end: bool = False) -> None:
        """Tell of what was left out in windows that are over, or in all."""
        for window in self._flood.over(all=at_the_end):
            cause, (pk, text) = window.cause, window.latest
            tell = logger if cause.what != "failed" else self._logger
            (tell.error if cause.for_good else tell.warning)(
                _SUMS["for good" if cause.for_good else cause.what],
                cause.model,
                window.more,
                cause.state,
                f" ({cause.error})" if cause.error else "",
                pk,
                text,
                extra={
                    "action": "summed_up",
                    "model": cause.model,
                    "state": cause.state,
                    "number": window.more,
                    "error": cause.error,
                    "worker": self.worker,
                },
            )


_SUMS = {
    "failed": "%s: %d more attempts in the state %s failed%s; the latest: %s: %s",
    "for good": "%s: %d more rows failed for good in the state %s%s; the latest: %s: %s",
    "overdue": "%s: %d more checks in the state %s overran their deadlines%s; the latest: %s %s",
    "cancelled": "%s: %d more checks in the state %s were cancelled%s; the latest: %s %s",
    "halved": "%s: %d more batches in the state %s came to nothing%s; the latest: %s: %s",
}
