"""Every way an attempt can end, and the outcome that is written for it.

========================================== =========================== =========== ================
How it ends                                What is written             Counted as  On record
========================================== =========================== =========== ================
A guard is true; the check answers another the state                   moved       nothing [1]_
The check answers None                     due after ``retry_after``   stayed      nothing [1]_
It answers the row's own state             due after ``start_after``   stayed      nothing [1]_
It answers or raises ``TryAgainLater``     due after its delay         stayed      nothing [1]_
It answers or raises ``Retry``             as failed, after its delay  failed      the exception
It answers or raises ``Pause``             due after the pause [6]_    stayed      a ``Pause``
``start_after`` is not over: no check      due when it is over         stayed      nothing [1]_
It would stay, but its timeout is over     state of ``timeout_to``     timed_out   nothing [1]_
Its life is over: no check, no guard [7]_  state of ``lifetime()``     timed_out   nothing [1]_
The check raises; its answer is invalid    as failed [2]_              failed      the exception
A guard fails in the database              as failed [2]_              failed      the exception
The check leaves a transaction open        as failed [2]_              failed      ``LEFT_OPEN``
The check overruns its deadline            as failed [2]_              overran     ``TimeoutError``
The database refuses the outcome           as failed, or parked [3]_   failed      the refusal
The process died of the row too often      as failed, for good         failed      ``ProcessDied``
The database goes away under the check     handed back [4]_            interrupted nothing
The runner stops, or its loop is blocked   handed back                 interrupted nothing
The row moved on without the attempt       nothing                     superseded  nothing
A batch raises, overruns or is left open   nothing: run in halves [5]_ nothing     nothing
========================================== =========================== =========== ================

.. [1] The record of an earlier failure is resolved, and the count of failures starts again, except
   after ``TryAgainLater(keep_failures=True)``.
.. [2] Due again after the state's backoff; after ``max_attempts`` in the state of ``fails_to``, or
   parked where there is none: due no more. A row whose timeout is over goes to the state of
   ``timeout_to`` instead, and is counted as without it.
.. [3] The row failed where it was; if that is refused, it is parked; if that is refused, too,
   nothing is written, and the row is claimed again as a suspect when its lease has run out.
.. [4] The fifth time in a row it is the row's own failure.
.. [5] Until one row stands alone, to which the above applies.
.. [6] The count of failures stays as it is.
.. [7] A check that runs when its row's life ends goes on, and may still move it. If the row would
   stay, or has failed, it goes to the state of ``lifetime()``, whatever its ``timeout_to``.

``OutcomeBuilder`` makes the outcome of one row; ``conclude`` decides what a call has come to,
whichever executor made it, for one row or for a batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Self

from django.core.exceptions import ValidationError

from django_fsmworker import clock
from django_fsmworker.exceptions import GraphError, Pause, Retry, TryAgainLater
from django_fsmworker.graph import State, Transition
from django_fsmworker.graph.durations import as_seconds
from django_fsmworker.models.fields import in_a_row
from django_fsmworker.models.indexes import own_column
from django_fsmworker.models.keys import key_of
from django_fsmworker.models.limits import WHOLE_LANE, stored_key
from django_fsmworker.runner.database.outages import OutageTracker
from django_fsmworker.runner.execution.ages import outlived
from django_fsmworker.runner.execution.answers import refuse_type, refuse_undeclared
from django_fsmworker.runner.execution.attempt_log import AttemptLog
from django_fsmworker.runner.in_flight.attempts import (
    ALONE_FROM,
    Again,
    Attempt,
    Batch,
    Result,
    Work,
)
from django_fsmworker.store.failures import Failure, dropped
from django_fsmworker.store.fence import Ending, Outcome, Settled
from django_fsmworker.store.pauses import PauseRequest

LEFT_OPEN = Failure(
    "django_fsmworker.exceptions.TransactionLeftOpen",
    "The check left a transaction open, which was rolled back; end it with commit() or use "
    "transaction.atomic().",
)

# What a check may return beside None.
ANSWERS = (State, str)


class OutcomeBuilder:
    """Turns the way in which an attempt at one row ended into the write that follows.

    Key, token and number of failures are those of the row before its check, which may have changed
    the instance.
    """

    __slots__ = ("failures", "found", "pk", "row", "state", "token")

    def __init__(self, row: Any, pk: Any, token: int | None, state: State) -> None:
        self.row, self.pk, self.token, self.state = row, pk, token, state
        self.found: int = row.__dict__["state_failures"]
        self.failures = self.found and in_a_row(self.found)  # of most rows it is 0

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """The builder for a row that this process has claimed."""
        return cls(attempt.row, attempt.pk, attempt.token, attempt.state)

    @classmethod
    def of_row(cls, row: Any) -> Self:
        """The builder for a row as it was loaded, claimed or not."""
        values = row.__dict__
        state = type(row).state_graph.get(values["state"])
        return cls(row, key_of(row), values["state_claim"], state)

    def of_answer(self, answer: Any) -> Outcome:
        """The outcome of a check that returned; raises if it returned what it may not."""
        if answer is None:
            return self.stayed(None)
        if isinstance(answer, Settled):
            return self._settled(answer)
        if not isinstance(answer, ANSWERS):
            refuse_type(self.check, answer)
        target = self.state.answered(answer)
        if target is None:
            refuse_undeclared(self.check, self.state, answer)
        if target is self.state:  # it is not entered anew: its timeout goes on
            return self._outcome(Ending.STAYED, target, target.start_after)
        return self.moved(target, "check")

    def of_guard(self, decision: Transition | Exception, age: float) -> Outcome:
        """The outcome of an attempt that ended before its check: a guard was true, or failed."""
        if isinstance(decision, Exception):
            return self.failed(Failure.of(decision), age)
        return self.moved(decision.target, "guard")

    def moved(self, target: State, cause: str) -> Outcome:
        """The row goes to ``target``; ``cause`` is what the signal ``state_changed`` tells."""
        return Outcome(
            self.pk,
            self.row,
            Ending.MOVED,
            self.state.name,
            self.token,
            target.name,
            target.first_due,
            target.timeout_after,
            cause=cause,
        )

    def stayed(self, delay: float | timedelta | None) -> Outcome:
        """The row is due again after ``delay``, None meaning its state's ``retry_after``."""
        wait = self.state.retry_after if delay is None else as_seconds(delay, "delay")
        return self._outcome(Ending.STAYED, self.state, wait if self.state.checked else None)

    def later(self, later: TryAgainLater) -> Outcome:
        """The check asked for its row to be tried later; a delay that is none is a failure."""
        try:
            outcome = self.stayed(later.delay)
        except GraphError as error:
            return self.failed(Failure.of(error))
        if later.keep_failures:
            outcome.failures = self.failures
        return outcome

    def paused(self, pause: Pause) -> Outcome:
        """The check asked for a pause, after which its row is tried again."""
        try:
            outcome = self._paused(pause)
        except (GraphError, ValueError, TypeError) as error:
            return self.failed(Failure.of(error))
        outcome.failures = self.failures
        return outcome

    def _paused(self, pause: Pause) -> Outcome:
        key: Any = WHOLE_LANE if pause.key is ... else self._key(pause.key)
        until: Any = pause.until
        if isinstance(until, datetime):
            until = max(0.0, clock.seconds_until(until))
        seconds = as_seconds(until, "until")
        outcome = self.stayed(seconds)
        if seconds > 0:
            outcome.pause = PauseRequest(seconds, key, pause.reason)
        return outcome

    def _key(self, key: Any) -> Any:
        column = self.state.limits.key
        if column is None:
            raise ValueError(
                f"{self.check} raised Pause(key={key!r}), and {self.state} has no keys; give it a "
                f"limit_by, rate_by or fair_by, or leave key out."
            )
        try:
            return stored_key(own_column(type(self.row)._meta, column), key)
        except ValidationError as error:
            said = " ".join(error.messages)
            raise ValueError(f"{self.check} raised Pause(key={key!r}): {said}") from error

    def retried(self, retry: Retry) -> Outcome:
        """The check failed, and says when to try again; if that is no time, that is on record."""
        try:
            return self.failed(Failure.of(retry), retry_in=as_seconds(retry.after, "after"))
        except GraphError as error:
            return self.failed(Failure.of(error))

    def failed(
        self,
        failure: Failure,
        age: float = 0.0,
        *,
        for_good: bool = False,
        retry_in: float | None = None,
    ) -> Outcome:
        """The row is tried again by backoff; after ``max_attempts`` it goes where failed rows go.

        ``age`` is how many seconds ago it entered its state. ``for_good``: it is not tried again.
        ``retry_in`` seconds take the place of the backoff.
        """
        state, failures = self.state, self.failures + 1
        most = getattr(self.row, "state_max_attempts", state.max_attempts)
        if not for_good and (most is None or failures < most):
            wait = state.retry_delay(failures) if retry_in is None else retry_in
            outcome = self.parked(failure, retry_in=wait)
        elif state.failure_state is None:
            outcome = self.parked(failure)
        else:
            outcome = self._outcome(
                Ending.FAILED,
                state.failure_state,
                state.failure_state.first_due,
                failure=failure,
                attempt=failures,
                cause="failure",
            )
        return self.or_timeout(outcome, age)

    def parked(self, failure: Failure, retry_in: float | None = None) -> Outcome:
        """The row stays, with the failure counted; without ``retry_in`` until somebody moves it."""
        failures = self.failures + 1
        return self._outcome(
            Ending.FAILED,
            self.state,
            retry_in,
            failures=failures,
            failure=failure,
            attempt=failures,
        )

    def or_timeout(self, outcome: Outcome, age: float) -> Outcome:
        """``outcome``, unless it would keep the row where its timeout, or its life, is over."""
        if outcome.moved:
            return outcome
        state, timeout = self.state, self.state.timeout_after
        if outlived(self.row, state, age):
            moved = self.moved(state.lifetime_state, "lifetime")  # type: ignore[arg-type]
        elif timeout is not None and age >= timeout:
            moved = self.moved(state.timeout_state, "timeout")  # type: ignore[arg-type]
        else:
            return outcome
        moved.ending, moved.failure = Ending.TIMED_OUT, outcome.failure
        if outcome.failure is not None:
            moved.ending = outcome.ending
        return moved

    def _outcome(self, ending: Ending, target: State, delay: float | None, **more: Any) -> Outcome:
        return Outcome(
            self.pk,
            self.row,
            ending,
            self.state.name,
            self.token,
            target.name,
            delay,
            target.timeout_after,
            **more,
        )

    def _settled(self, answer: Settled) -> Outcome:
        """What the check has written itself."""
        return Outcome(
            self.pk,
            self.row,
            answer.ending,
            self.state.name,
            self.token,
            answer.target,
            answer.delay,
            None,
            answer.failures,
            answer.attempt,
            answer.failure,
            written=True,
            given_back=answer.given_back,
        )

    @property
    def check(self) -> str:
        """What messages call the check."""
        return f"{self.state.graph.__name__}.{self.state.transition_function}"


def failed_outcome(attempt: Attempt, failure: Failure, *, for_good: bool = False) -> Outcome:
    """The outcome of an attempt that ended in ``failure`` now."""
    age = attempt.age(time.monotonic())
    outcome = OutcomeBuilder.of(attempt).failed(failure, age, for_good=for_good)
    outcome.trace = attempt.trace
    return outcome


def overrun_outcome(attempt: Attempt) -> Outcome:
    """The outcome of an attempt whose check did not end within its deadline."""
    outcome = failed_outcome(attempt, overrun_failure(attempt, noted=attempt.noted))
    outcome.ending = Ending.OVERRAN
    return outcome


def overrun_failure(work: Work, *, noted: bool = False) -> Failure:
    """What is put on record about a check that did not end within its deadline."""
    ran = time.monotonic() - (work.started or time.monotonic())
    rows = f" of {len(work.attempts)} rows" if isinstance(work, Batch) else ""
    return Failure(
        "django_fsmworker.exceptions.TimeoutError",
        f"The check{rows} did not end within its deadline; it ran for {ran:.1f} s.",
        noted=noted,
    )


def died_outcome(attempt: Attempt, deaths: int) -> Outcome:
    """The outcome of a row under which a process has died too often."""
    failure = Failure(
        "django_fsmworker.exceptions.ProcessDied",
        f"The process that ran this row ended {deaths} times, {deaths - ALONE_FROM} of them while "
        f"no other row was started beside it; it is not run again.",
    )
    return failed_outcome(attempt, failure, for_good=True)


def swallowed_outcome(outcome: Outcome) -> Outcome:
    """What takes the place of an outcome that the database drops without an error."""
    return _in_place_of(outcome, dropped(outcome.target))


def refused_outcome(outcome: Outcome, error: Exception) -> Outcome:
    """What takes the place of an outcome that the database refuses: the row failed where it was.

    If that outcome was a failure already, its failure state is what is refused: the row is parked.
    """
    return _in_place_of(outcome, Failure.of(error))


def _in_place_of(outcome: Outcome, failure: Failure) -> Outcome:
    state = type(outcome.row).state_graph.get(outcome.source)
    builder = OutcomeBuilder(outcome.row, outcome.pk, outcome.token, state)
    other = builder.failed(failure) if outcome.failure is None else builder.parked(failure)
    other.trace = outcome.trace
    return other


Condition = Callable[[], bool]


def conclude(
    work: Work,
    ended: Outcome | list[Outcome] | Failure | None,
    losses: LostConnections,
    lost: Condition,
    left_open: Condition,
    log: AttemptLog,
) -> Result:
    """The result of a call that returned or raised; None hands its rows back.

    ``lost`` tells whether a database went away under the check, ``left_open`` whether a transaction
    was left open.
    """
    if isinstance(work, Batch):
        return _conclude_batch(work, ended, losses, lost, left_open, log)  # type: ignore[arg-type]
    if ended is None:
        return None
    assert isinstance(ended, Outcome)
    if ended.written:  # committed with what the check wrote; what came after changes nothing
        losses.forget(work)
        return ended
    failure = ended.failure
    if failure is None:
        losses.forget(work)
        return failed_outcome(work, LEFT_OPEN) if left_open() else ended
    if losses.explains(work, failure) or lost():
        return None if losses.is_outage(work) else ended
    losses.forget(work)
    return ended


def _conclude_batch(
    batch: Batch,
    ended: list[Outcome] | Failure,
    losses: LostConnections,
    lost: Condition,
    left_open: Condition,
    log: AttemptLog,
) -> Result:
    if batch.overran or batch.cancelled:
        return None  # the flags decide
    if isinstance(ended, Failure):
        if not (losses.explains(batch, ended) or lost()):
            return in_halves(batch, ended, log)
        # Which row did it, if any did, will show: each of them is noted, and runs alone next time.
        outages = [losses.is_outage(each) for each in batch.attempts]
        return None if all(outages) else in_halves(batch, ended, log)
    if left_open():
        return in_halves(batch, LEFT_OPEN, log)
    failures = [each.failure for each in ended if each.failure is not None and not each.written]
    if not failures or not (any(losses.explains(batch, each) for each in failures) or lost()):
        return ended
    return [
        None
        if each.failure is not None and not each.written and losses.is_outage(attempt)
        else each
        for attempt, each in zip(batch.attempts, ended, strict=True)
    ]


def after_flags(work: Work, result: Result) -> Result:
    """``result``, unless the check was interrupted: then its flags decide, not what it returned.

    Called after ``finish``, when nobody interrupts any more.
    """
    if work.cancelled:
        return None
    return overrun_result(work) if work.overran else result


def overrun_result(work: Work) -> Result:
    """The result of a call that overran its deadline; in a batch nobody has failed yet."""
    return Again.IN_HALVES if isinstance(work, Batch) else overrun_outcome(work)


def error_result(work: Work, error: BaseException, log: AttemptLog) -> Result:
    """The result of a call whose end the engine could not make out; every row taken is settled."""
    log.undecided(work, error)
    failure = Failure.of(error)
    if isinstance(work, Batch):
        return in_halves(work, failure, log)
    return failed_outcome(work, failure)


def in_halves(batch: Batch, failure: Failure, log: AttemptLog) -> Again:
    """Log why the rows are run again in halves: nobody knows which of them is to blame."""
    log.halved(batch, failure)
    return Again.IN_HALVES


MOST_LOSSES, MOST_ROWS = 5, 10_000


class LostConnections:
    """Tells a check that met an outage from one that may well be the cause of it.

    A row whose checks lose the database ``MOST_LOSSES`` times in a row is no victim any more.
    """

    def __init__(self, outages: OutageTracker) -> None:
        self.outages = outages
        self._rows: Counter[tuple[Any, Any]] = Counter()

    def explains(self, work: Work, failure: Failure) -> bool:
        """Whether the check failed of an outage; a lock that lasts is one, too.

        Where waits for a lock cannot be ended, a check may meet one that lasts before the runner
        has said so. Elsewhere a query that is slow just then tells nothing of the check's lock.
        """
        if failure.lost or not failure.locked:
            return failure.lost
        tells = self.outages.is_away if work.store.interruptible else self.outages.keeps_waiting
        return tells(work.store.alias)

    def is_outage(self, attempt: Attempt) -> bool:
        """Count one more loss for the row; False once it is the row's own doing."""
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
        """Start the row's count again: its check has ended and did not lose its database."""
        if self._rows:
            self._rows.pop((attempt.model, attempt.pk), None)
