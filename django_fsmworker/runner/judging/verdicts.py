"""The write that follows from what a check did."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NoReturn

from django_fsmworker.exceptions import GraphError, TryAgainLater, UndeclaredTransition
from django_fsmworker.graph import State
from django_fsmworker.graph.durations import as_seconds
from django_fsmworker.runner.judging.answers import refuse_awaitable
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.outcomes import Kind, Outcome

# What a check may return beside None.
ANSWERS = (State, str)


class Verdict:
    """Turns what a check did into the write that follows."""

    __slots__ = ("failures", "pk", "row", "state", "token")

    def __init__(self, row: Any, pk: Any, token: int | None, state: State) -> None:
        self.row, self.pk, self.token, self.state = row, pk, token, state
        self.failures: int = row.__dict__["state_failures"]

    def of_result(self, result: Any) -> Outcome:
        """The outcome of a check that returned; raises if it returned what it may not."""
        if result is None:
            return self.stayed(None)
        if not isinstance(result, ANSWERS):
            refuse_awaitable(self.check, result)
            raise TypeError(
                f"{self.check} returned {result!r}; "
                f"a check returns a state, the name of one, or None."
            )
        target = self.state.answered(result)
        if target is None:
            self._refuse_undeclared(result)
        return self.moved(target, "check")

    def moved(self, target: State, cause: str) -> Outcome:
        return Outcome(
            self.pk,
            self.row,
            Kind.MOVED,
            self.state.name,
            self.token,
            target.name,
            target.first_due,
            target.timeout_after,
            cause=cause,
        )

    def stayed(self, delay: float | timedelta | None) -> Outcome:
        wait = self.state.retry_after if delay is None else as_seconds(delay, "delay")
        return self._outcome(
            Kind.STAYED,
            self.state,
            wait if self.state.checked else None,
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
            target.first_due,
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

    def _refuse_undeclared(self, result: State | str) -> NoReturn:
        target = self.state.graph.get(result)
        if target in self.state.children:
            raise UndeclaredTransition(
                f"{self.check} returned {target}, to which only a guard leads; declare "
                f"{self.state}.transitions_to({target}) without when=, too, or return None."
            )
        raise UndeclaredTransition(
            f"{self.check} returned {target}, which is not declared; "
            f"declare {self.state}.transitions_to({target})."
        )

    @property
    def check(self) -> str:
        """What messages call the check."""
        return f"{self.state.graph.__name__}.{self.state.transition_function}"
