"""What is written for answers that leave a row where it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from django_fsmworker.exceptions import Retry, TryAgainLater
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.runner.execution.outcomes import OutcomeBuilder
from django_fsmworker.store.fence import Ending


class PollStates(StateGraph):
    polled = State(start_after=5, retry_after=60, force_initial=True, max_attempts=3)
    gone = State()

    polled.transitions_to(polled, gone)
    polled.timeout_to(gone, seconds=100)

    @classmethod
    def check_polled(cls, row: Any) -> Any:
        return cls.polled


@pytest.fixture
def builder() -> OutcomeBuilder:
    row = SimpleNamespace(state="polled", state_failures=2)
    return OutcomeBuilder(row, 7, 1, PollStates.states["polled"])


class TestItsOwnState:
    """An answer with which nothing is entered, so that the timeout is not started again."""

    @pytest.mark.parametrize("answer", ["polled", PollStates.polled])
    def test_the_row_stays(self, builder: OutcomeBuilder, answer: Any) -> None:
        outcome = builder.of_answer(answer)

        assert (outcome.ending, outcome.moved, outcome.delay) == (Ending.STAYED, False, 5)
        assert (outcome.target, outcome.timeout, outcome.failures) == ("polled", 100, 0)

    def test_a_timeout_that_is_over_moves_it(self, builder: OutcomeBuilder) -> None:
        outcome = builder.or_timeout(builder.of_answer("polled"), age=101)

        assert (outcome.ending, outcome.target) == (Ending.TIMED_OUT, "gone")


class TestTryAgainLater:
    @pytest.mark.parametrize(("keep", "failures"), [(True, 2), (False, 0)])
    def test_failures(self, builder: OutcomeBuilder, keep: bool, failures: int) -> None:
        outcome = builder.later(TryAgainLater(120, keep_failures=keep))

        assert (outcome.ending, outcome.delay) == (Ending.STAYED, 120)
        assert (outcome.failures, outcome.failure) == (failures, None)


class TestRetry:
    def test_the_last_attempt_is_not_followed_by_another(self, builder: OutcomeBuilder) -> None:
        outcome = builder.retried(Retry(after=120))

        assert (outcome.ending, outcome.delay, outcome.failures) == (Ending.FAILED, None, 3)

    def test_an_earlier_one_is(self, builder: OutcomeBuilder) -> None:
        builder.failures = 0

        outcome = builder.retried(Retry(after=120))

        assert (outcome.ending, outcome.delay, outcome.failures) == (Ending.FAILED, 120, 1)
