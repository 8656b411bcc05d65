"""Batches without a runner: the testing kit gives a check what a runner would, a row's verb one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError

from django_fsmworker import clock
from django_fsmworker.exceptions import TryAgainLater, UndeclaredTransition
from django_fsmworker.models import FailureRecord
from django_fsmworker.testing import NotIdle, assert_path, run_until_idle, step, travel
from tests.app.models import CheckLog, Letter, LetterStates
from tests.app.models.letters import CHECKS

Check = Callable[[list[Letter]], Any]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call of the plain check had."""
    sizes: list[int] = []
    default = CHECKS["new"]

    def note(rows: list[Letter]) -> Any:
        sizes.append(len(rows))
        return default(rows)

    monkeypatch.setitem(CHECKS, "new", note)
    return sizes


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[[Check], list[int]]:
    """``check(answer)``: what the plain check answers; returns how many rows each call had."""

    def define(answer: Check) -> list[int]:
        sizes: list[int] = []

        def note(rows: list[Letter]) -> Any:
            sizes.append(len(rows))
            return answer(rows)

        monkeypatch.setitem(CHECKS, "new", note)
        return sizes

    return define


def letters(number: int, **values: Any) -> list[Letter]:
    return [Letter.objects.create(**values) for _ in range(number)]


@pytest.mark.django_db
class TestRunUntilIdle:
    def test_the_check_gets_what_is_due_together(self, calls: list[int]) -> None:
        rows = letters(25)

        attempts = run_until_idle(Letter)

        assert (calls, attempts) == ([20, 5], 50)
        for row in rows:
            assert_path(row, ["new", "flying", "done"])
        assert CheckLog.objects.count() == 50

    def test_rows_with_a_history_alone(self, calls: list[int]) -> None:
        letters(2, state_failures=1)
        letters(3)

        run_until_idle(Letter)

        assert sorted(calls) == [1, 1, 3]

    def test_a_row_that_makes_the_check_raise(self, check: Any) -> None:
        def tear(rows: list[Letter]) -> str:
            if any(row.value for row in rows):
                raise RuntimeError("torn")
            return "done"

        calls = check(tear)
        rows = [*letters(3), *letters(1, value=1)]

        with pytest.raises(RuntimeError, match="torn") as caught:
            run_until_idle(Letter)

        assert caught.value.__notes__ == [
            f"(tests.Letter {rows[-1].pk} failed in the state 'new'.)"
        ]
        assert calls == [4, 2, 2, 1, 1]
        for row in rows:
            row.refresh_from_db()
        assert [row.state for row in rows] == ["done"] * 3 + ["new"]
        assert [row.state_failures for row in rows] == [0] * 3 + [1]
        assert not Letter.objects.exclude(state_claim=None, state_lease=None).exists()

    def test_the_first_of_many_failures_is_raised_once_all_are_written(self, check: Any) -> None:
        check(lambda rows: [ValueError(row.value) for row in rows])
        letters(1, value=1)
        letters(1, value=2)

        with pytest.raises(ValueError, match="1"):
            run_until_idle(Letter)

        assert FailureRecord.objects.count() == 2

    def test_failures_that_are_not_raised(self, check: Any) -> None:
        check(lambda rows: ["done", ValueError("no"), "failed", "nirvana"])
        rows = letters(4)

        assert run_until_idle(Letter, raise_failures=False) == 4

        for row in rows:
            row.refresh_from_db()
        assert [row.state for row in rows] == ["done", "new", "failed", "new"]
        assert FailureRecord.objects.count() == 2

    def test_a_call_that_breaks_the_transaction_of_the_test(self, check: Any) -> None:
        def collide(rows: list[Letter]) -> str:
            Letter.objects.filter(pk=rows[0].pk).update(value=5)
            if len(rows) > 1:
                Letter(pk=rows[0].pk).save(force_insert=True)
            return "done"

        calls = check(collide)
        rows = letters(2)

        run_until_idle(Letter)

        assert calls == [2, 1, 1]
        assert set(Letter.objects.values_list("state", "value")) == {("done", 5)}
        assert not FailureRecord.objects.exists()
        assert len(rows) == 2

    def test_a_database_error_of_a_row_alone_comes_through(self, check: Any) -> None:
        def collide(rows: list[Letter]) -> str:
            if any(row.value for row in rows):
                Letter(pk=rows[0].pk).save(force_insert=True)
            return "done"

        check(collide)
        letters(2)
        (bad,) = letters(1, value=1)

        with pytest.raises(IntegrityError):
            run_until_idle(Letter)

        bad.refresh_from_db()
        assert (bad.state, bad.state_failures) == ("new", 1)
        assert Letter.objects.filter(state="done").count() == 2

    def test_the_next_call_does_not_find_what_the_failed_one_did(self, check: Any) -> None:
        def add(rows: list[Letter]) -> str:
            for row in rows:
                row.value += 1
            if len(rows) > 1:
                raise RuntimeError
            for row in rows:
                row.save()
            return "done"

        check(add)
        letters(4)

        run_until_idle(Letter)

        assert set(Letter.objects.values_list("value", flat=True)) == {1}

    def test_try_again_later_delays_all_rows_without_a_failure(self, check: Any) -> None:
        def later(rows: list[Letter]) -> None:
            raise TryAgainLater(600)

        check(later)
        (row, _) = letters(2)

        assert run_until_idle(Letter) == 2

        row.refresh_from_db()
        assert row.state_next is not None
        assert timedelta(seconds=590) < row.state_next - clock.now() <= timedelta(seconds=600)

    def test_the_limit_counts_rows(self, calls: list[int]) -> None:
        letters(10)

        with pytest.raises(NotIdle, match="After 6 attempts"):
            run_until_idle(Letter, limit=6)

        assert calls == [6]
        assert not Letter.objects.exclude(state_claim=None).exists()

    def test_a_row_that_was_deleted_meanwhile(self, check: Any) -> None:
        def delete(rows: list[Letter]) -> str:
            if len(rows) == 3:
                rows[0].delete()
                raise RuntimeError
            return "done"

        calls = check(delete)
        letters(3)

        run_until_idle(Letter)

        assert calls == [3, 1, 1]
        assert list(Letter.objects.values_list("state", flat=True)) == ["done", "done"]


@pytest.mark.django_db
class TestOneRow:
    def test_step_calls_the_check_with_the_row_alone(self, calls: list[int]) -> None:
        row = Letter.objects.create()

        assert step(row) is LetterStates.flying
        assert step(row) is LetterStates.done

        assert calls == [1]
        assert_path(row, ["new", "flying", "done"])

    def test_step_raises_what_the_check_answered(self, check: Any) -> None:
        check(lambda rows: [ValueError("no")])
        row = Letter.objects.create()

        with pytest.raises(ValueError, match="no"):
            step(row)

        assert row.state_failures == 1

    def test_state_transition_check_calls_the_check_with_the_row_alone(
        self, calls: list[int]
    ) -> None:
        row = Letter.objects.create()

        assert row.state_transition_check() is LetterStates.flying
        assert row.state_transition_check() is LetterStates.done

        assert calls == [1]

    @pytest.mark.parametrize(
        "answer",
        [
            lambda rows: "done",
            lambda rows: LetterStates.done,
            lambda rows: ["done"],
            lambda rows: {rows[0]: "done"},
            lambda rows: {rows[0].pk: "done"},
        ],
    )
    def test_every_kind_of_answer_moves_the_row(self, check: Any, answer: Check) -> None:
        check(answer)
        row = Letter.objects.create()

        assert row.state_transition_check() is LetterStates.done

    def test_an_answer_that_is_none(self, check: Any) -> None:
        check(lambda rows: [])
        row = Letter.objects.create()

        assert row.state_transition_check() is None

        assert FailureRecord.objects.get().message.startswith(
            "LetterStates.check_new got 1 row and returned 0 answers;"
        )

    def test_an_answer_that_is_undeclared_is_raised(self, check: Any) -> None:
        check(lambda rows: ["new"])

        with pytest.raises(UndeclaredTransition):
            step(Letter.objects.create())

    def test_a_row_that_keeps_failing_backs_off_into_the_failure_state(self, check: Any) -> None:
        check(lambda rows: ValueError)
        row = Letter.objects.create()

        for minutes in range(3):
            with travel(seconds=61 * minutes):
                run_until_idle(Letter, raise_failures=False)

        row.refresh_from_db()
        assert row.state == "failed"


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_the_rows_are_run_too(calls: list[int]) -> None:
    letters(3)

    assert run_until_idle(Letter) == 6

    assert calls == [3]
    assert not Letter.objects.exclude(state="done").exists()
