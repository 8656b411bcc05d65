"""Run the check of one row and say what came of it."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

from django.conf import settings

from django_fsmworker.exceptions import GraphError, TryAgainLater, UndeclaredTransition
from django_fsmworker.graph import State
from django_fsmworker.graph.durations import as_seconds
from django_fsmworker.models import unsaved
from django_fsmworker.models.timing import first_due
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.outcomes import Kind, Outcome

logger = logging.getLogger(__name__)

MOST_DEATHS = 5


def judge(row: Any, age: float, caught: list[BaseException] | None = None) -> Outcome:
    """The outcome of one attempt at ``row``, which entered its state ``age`` seconds ago.

    Nothing a check raises gets through, except Ctrl-C in the main thread. Whoever wants the
    exception itself, beside the text on record, passes the list ``caught``.
    """
    state: State = type(row).state_graph.get(row.__dict__["state"])
    pk, token = row.pk, row.__dict__["state_claim"]
    verdict = _Verdict(row, pk, token, state)
    if _too_early(row, state, age):
        return verdict.stayed(state.start_after - age)
    if state.automatic:
        try:
            outcome = verdict.of_result(_run_check(state, row))
        except TryAgainLater as later:
            outcome = verdict.later(later)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and _in_main_thread():
                raise
            if caught is not None:
                caught.append(error)
            outcome = verdict.failed(Failure.of(error))
    else:
        outcome = verdict.stayed(None)
    return verdict.or_timeout(outcome, age)


def failed(
    row: Any,
    pk: Any,
    token: int | None,
    state: State,
    failure: Failure,
    age: float,
    *,
    for_good: bool = False,
) -> Outcome:
    """The outcome of an attempt that ended in ``failure``, here or in a process that died."""
    verdict = _Verdict(row, pk, token, state)
    return verdict.or_timeout(verdict.failed(failure, for_good=for_good), age)


def parked(row: Any, pk: Any, token: int | None, state: State, failure: Failure) -> Outcome:
    """The outcome that stops trying where the row is."""
    return _Verdict(row, pk, token, state).parked(failure)


class _Verdict:
    """Turns what a check did into the write that follows."""

    def __init__(self, row: Any, pk: Any, token: int | None, state: State) -> None:
        self.row, self.pk, self.token, self.state = row, pk, token, state
        self.failures: int = row.__dict__["state_failures"]

    def of_result(self, result: Any) -> Outcome:
        """The outcome of a check that returned; raises if it returned what it may not."""
        if result is None:
            return self.stayed(None)
        if not isinstance(result, State | str):
            raise TypeError(
                f"{self._check} returned {result!r}; "
                f"a check returns a state, the name of one, or None."
            )
        target = self.state.graph.get(result)
        if target not in self.state.children:
            raise UndeclaredTransition(
                f"{self._check} returned {target}, which is not declared; "
                f"declare {self.state}.transitions_to({target})."
            )
        return self.moved(target, "check")

    def moved(self, target: State, cause: str) -> Outcome:
        return self._outcome(
            Kind.MOVED, target, first_due(target), target.timeout_after, cause=cause
        )

    def stayed(self, delay: float | timedelta | None) -> Outcome:
        wait = self.state.retry_after if delay is None else as_seconds(delay, "delay")
        return self._outcome(
            Kind.STAYED,
            self.state,
            wait if self.state.automatic else None,
            self.state.timeout_after,
        )

    def later(self, later: TryAgainLater) -> Outcome:
        try:
            return self.stayed(later.delay)
        except GraphError as error:
            return self.failed(Failure.of(error))

    def failed(self, failure: Failure, *, for_good: bool = False) -> Outcome:
        """Try again by backoff; after ``max_attempts`` go to the failure state, or park."""
        state, failures = self.state, self.failures + 1
        if not for_good and (state.max_attempts is None or failures < state.max_attempts):
            return self.parked(failure, retry_in=state.retry_delay(failures))
        target = state.failure_state
        if target is None:
            return self.parked(failure)
        return self._outcome(
            Kind.FAILED,
            target,
            first_due(target),
            target.timeout_after,
            failure=failure,
            attempt=failures,
            cause="failure",
        )

    def parked(self, failure: Failure, retry_in: float | None = None) -> Outcome:
        """Stay, with the failure counted; without ``retry_in`` until somebody moves the row."""
        failures = self.failures + 1
        return self._outcome(
            Kind.FAILED,
            self.state,
            retry_in,
            self.state.timeout_after,
            failures=failures,
            failure=failure,
            attempt=failures,
        )

    def or_timeout(self, outcome: Outcome, age: float) -> Outcome:
        """A row that stays in a state whose timeout has passed moves on."""
        timeout = self.state.timeout_after
        if outcome.moved or timeout is None or age < timeout:
            return outcome
        moved = self.moved(self.state.timeout_state, "timeout")  # type: ignore[arg-type]
        if outcome.kind is Kind.FAILED:
            moved.kind, moved.failure = Kind.FAILED, outcome.failure
        return moved

    def _outcome(
        self,
        kind: Kind,
        target: State,
        delay: float | None,
        timeout: float | None,
        **more: Any,
    ) -> Outcome:
        return Outcome(
            self.pk,
            self.row,
            kind,
            self.state.name,
            self.token,
            target.name,
            delay,
            timeout,
            **more,
        )

    @property
    def _check(self) -> str:
        return f"{self.state.graph.__name__}.{self.state.transition_function}"


def _too_early(row: Any, state: State, age: float) -> bool:
    """A row inserted by plain SQL, due as it was born: it honours ``start_after`` here."""
    return age < state.start_after and row.state_next == row.state_changed


def _run_check(state: State, row: Any) -> Any:
    if not settings.DEBUG:
        return state.handler(row)
    unsaved.watch(row)
    result = state.handler(row)
    _warn_of_unsaved_fields(row, state)
    return result


def _warn_of_unsaved_fields(row: Any, state: State) -> None:
    """In DEBUG only: a check that forgets ``save()`` loses what it worked out."""
    names = unsaved.fields(row)
    if names:
        logger.warning(
            "%s.%s left %s of %s %s unsaved; call save() before the check returns.",
            state.graph.__name__,
            state.transition_function,
            ", ".join(names),
            type(row)._meta.label,
            row.pk,
            extra={"action": "unsaved_fields", "model": type(row)._meta.label, "pk": row.pk},
        )


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
