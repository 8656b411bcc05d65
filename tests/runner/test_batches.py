"""Checks that get a batch of rows, in threads and on the event loop: who gets what, and alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.exceptions import Retry, TryAgainLater
from django_fsmworker.models.records import FailureRecord
from tests.app.models import Letter, LetterStates
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import due_in, failure, fresh, lapse, path, reason, states
from tests.runner.scripted_check import STATES, ScriptedCheck

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]
Keys = list[int]


@pytest.fixture(params=STATES)
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ScriptedCheck:
    return ScriptedCheck(request.param, monkeypatch)


def keys(rows: list[Letter]) -> Keys:
    return [row.pk for row in rows]


def stayed(row: Letter, seconds: float = 60) -> None:
    now = fresh(row)
    assert now.state_failures == 0
    assert now.state_claim is None
    assert seconds - 10 < due_in(row) <= seconds


class TestCalls:
    def test_the_check_gets_lists_of_at_most_as_many_as_the_state_says(
        self, script: ScriptedCheck
    ) -> None:
        rows = script.letters(50)

        runner = one_pass(Letter)

        assert sorted(script.sizes) == [10, 20, 20]
        assert sorted(pk for call in script.calls for pk in call) == keys(rows)
        assert set(states(rows)) == {"done"}
        assert runner.counters.total("moved") == 50

    def test_one_row_is_a_list_of_one(self, script: ScriptedCheck) -> None:
        (row,) = script.letters(1)

        one_pass(Letter)

        assert (script.calls, fresh(row).state) == ([[row.pk]], "done")

    def test_rows_of_two_states_are_never_in_one_call(
        self, script: ScriptedCheck, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = ScriptedCheck(next(kind for kind in STATES if kind != script.kind), monkeypatch)
        rows, others = script.letters(15), other.letters(15)

        one_pass(Letter)

        assert (script.calls, other.calls) == ([keys(rows)], [keys(others)])

    def test_each_row_has_its_own_history(self, script: ScriptedCheck) -> None:
        script.answer = lambda rows: ["done" if row.value else None for row in rows]
        rows = [*script.letters(5, value=1), *script.letters(5)]

        one_pass(Letter)

        assert [path(row) for row in rows] == [[script.state, "done"]] * 5 + [[script.state]] * 5

    def test_the_list_is_the_check_s_own(self, script: ScriptedCheck) -> None:
        def empty(rows: list[Letter]) -> Any:
            found = {row.pk: "done" for row in rows}
            rows.clear()
            return found

        script.answer = empty
        rows = script.letters(5)

        one_pass(Letter)

        assert set(states(rows)) == {"done"}

    def test_a_row_that_is_too_early_is_not_in_it(self, script: ScriptedCheck) -> None:
        state = LetterStates.states[script.state]
        assert state.first_due == 0.0  # worked out once, so not while it is changed
        before, state.start_after = state.start_after, 3600.0
        try:
            rows = script.letters(6)
            now = clock.now()
            Letter.objects.update(state_next=now, state_changed=now - timedelta(hours=2))
            Letter.objects.filter(pk=rows[2].pk).update(state_changed=now)

            one_pass(Letter)
        finally:
            state.start_after = before

        assert script.calls == [[row.pk for row in rows if row is not rows[2]]]
        assert fresh(rows[2]).state == script.state
        assert due_in(rows[2]) > 3000

    def test_what_it_leaves_unsaved_is_told_of_in_debug(
        self, script: ScriptedCheck, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def forget(rows: list[Letter]) -> str:
            rows[1].value = 7
            return "done"

        settings.DEBUG = True
        script.answer = forget
        rows = script.letters(3)

        one_pass(Letter)

        assert [each for each in caplog.messages if "unsaved" in each] == [
            f"LetterStates.check_{script.state} left value of tests.Letter {rows[1].pk} unsaved; "
            f"call save() before the check returns."
        ]


@pytest.mark.once
class TestAnswers:
    @pytest.mark.parametrize("whole", ["done", LetterStates.done])
    def test_one_state_moves_all_rows(self, script: ScriptedCheck, whole: Any) -> None:
        script.answer = lambda rows: whole
        rows = script.letters(5)

        one_pass(Letter)

        assert set(states(rows)) == {"done"}

    def test_none_leaves_all_rows(self, script: ScriptedCheck) -> None:
        script.answer = lambda rows: None
        rows = script.letters(5)

        one_pass(Letter)

        assert set(states(rows)) == {script.state}
        for row in rows:
            stayed(row)

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_a_list_answers_row_by_row(self, script: ScriptedCheck, kind: Any) -> None:
        script.answer = lambda rows: kind(
            [LetterStates.done, "done", None, TryAgainLater(600), ValueError("no stamp")]
        )
        rows = script.letters(5)

        runner = one_pass(Letter)

        assert states(rows) == ["done", "done"] + [script.state] * 3
        stayed(rows[2])
        stayed(rows[3], 600)
        assert reason(rows[4]) == "ValueError: no stamp"
        assert fresh(rows[4]).state_failures == 1
        assert script.sizes == [5]
        totals = [runner.counters.total(name) for name in ("moved", "stayed", "failed")]
        assert totals == [2, 2, 1]

    @pytest.mark.parametrize("key", ["row", "pk"])
    def test_a_mapping_from_rows_or_keys(self, script: ScriptedCheck, key: str) -> None:
        script.answer = lambda rows: {
            (row if key == "row" else row.pk): ("done" if row.value == 1 else ValueError("no"))
            for row in rows
            if row.value
        }
        rows = [*script.letters(2, value=1), *script.letters(2, value=2), *script.letters(2)]

        one_pass(Letter)

        assert states(rows) == ["done"] * 2 + [script.state] * 4
        assert [reason(row) for row in rows[2:4]] == ["ValueError: no"] * 2
        for row in rows[4:]:
            stayed(row)

    def test_an_answer_that_is_none_fails_its_row_only(self, script: ScriptedCheck) -> None:
        script.answer = lambda rows: ["done", "failed", script.state, "nirvana", 42, TryAgainLater]
        rows = script.letters(6)

        one_pass(Letter)

        check = f"LetterStates.check_{script.state}"
        errors = "django_fsmworker.exceptions"
        assert states(rows) == ["done", "failed"] + [script.state] * 4
        assert [reason(row) for row in rows[2:]] == [
            f"{errors}.UndeclaredTransition: {check} returned {script.state}, which is not "
            f"declared; declare {script.state}.transitions_to({script.state}).",
            f"{errors}.UnknownState: 'nirvana' is not a state of LetterStates; its states are: "
            f"{', '.join(LetterStates.states)}.",
            f"TypeError: {check} answered 42 for this row; an answer is a state, the name of one, "
            f"None, TryAgainLater() or an exception.",
            f"TypeError: {check} answered {TryAgainLater!r} for this row; an answer is a state, "
            f"the name of one, None, TryAgainLater() or an exception.",
        ]
        assert script.sizes == [6]

    def test_try_again_later_raised_counts_for_all(self, script: ScriptedCheck) -> None:
        def busy(rows: list[Letter]) -> None:
            raise TryAgainLater(timedelta(minutes=10))

        script.answer = busy
        rows = script.letters(5)

        one_pass(Letter)

        for row in rows:
            stayed(row, 600)
        assert script.sizes == [5]
        assert not FailureRecord.objects.exists()

    def test_a_retry_is_a_failure_of_all_rows_in_one_call(self, script: ScriptedCheck) -> None:
        def busy(rows: list[Letter]) -> Any:
            raise Retry(after=600, message="the office is closed")

        script.answer = busy
        rows = script.letters(5)

        one_pass(Letter)

        assert script.sizes == [5]
        assert [fresh(row).state_failures for row in rows] == [1] * 5
        assert reason(rows[0]) == "django_fsmworker.exceptions.Retry: the office is closed"

    def test_a_delay_that_is_none_is_a_failure_of_those_who_ask_for_it(
        self, script: ScriptedCheck
    ) -> None:
        def busy(rows: list[Letter]) -> Any:
            if any(row.value for row in rows):
                raise TryAgainLater(-5)
            return "done"

        script.answer = busy
        rows = [*script.letters(7), *script.letters(1, value=1)]

        one_pass(Letter)

        assert states(rows) == ["done"] * 7 + [script.state]
        assert "GraphError: delay=-5 is negative" in reason(rows[-1])

    def test_a_row_past_its_timeout_moves_on(
        self, script: ScriptedCheck, timeout_to_failed: None
    ) -> None:
        script.answer = lambda rows: [None for _ in rows]
        rows = script.letters(4)
        now = clock.now()
        Letter.objects.filter(pk__in=keys(rows[:2])).update(
            state_changed=now - timedelta(hours=2), state_next=now
        )

        one_pass(Letter)

        assert states(rows) == ["failed"] * 2 + [script.state] * 2

    @pytest.fixture
    def timeout_to_failed(self, script: ScriptedCheck, monkeypatch: pytest.MonkeyPatch) -> None:
        from dataclasses import replace

        from django_fsmworker.graph import Transition

        state = LetterStates.states[script.state]
        assert state.node is not None
        late = Transition(state, LetterStates.failed, "timeout", 3600.0)
        node = replace(state.node, transitions=(*state.node.transitions, late))
        monkeypatch.setattr(state, "node", node)


@pytest.mark.once
class TestNobodyKnows:
    """What the call as a whole did wrong: halved until the row stands alone."""

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (RuntimeError("torn"), "RuntimeError: torn"),
            (SystemExit(3), "SystemExit: 3"),
            (KeyboardInterrupt(), "KeyboardInterrupt: "),
        ],
    )
    def test_a_row_that_makes_the_check_raise_fails_alone(
        self,
        script: ScriptedCheck,
        error: BaseException,
        told: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def tear(rows: list[Letter]) -> str:
            if any(row.value for row in rows):
                raise error
            return "done"

        script.answer = tear
        rows = [*script.letters(13), *script.letters(1, value=1), *script.letters(6)]
        bad = rows[13]

        runner = one_pass(Letter)

        assert reason(bad) == told
        assert (fresh(bad).state, fresh(bad).state_failures) == (script.state, 1)
        assert Counter(states(rows)) == {"done": 19, script.state: 1}
        assert [row.row for row in FailureRecord.objects.all()] == [str(bad.pk)]
        assert (runner.counters.total("moved"), runner.counters.total("failed")) == (19, 1)
        assert sorted(script.sizes, reverse=True) == [20, 10, 10, 5, 5, 3, 2, 2, 1, 1, 1]
        assert (
            f"The check of tests.Letter {rows[0].pk} and 19 more in the state {script.state} came "
            f"to nothing ({told}); they run again in halves." in caplog.messages
        )

    def test_a_call_that_fails_for_all_fails_each(self, script: ScriptedCheck) -> None:
        def tear(rows: list[Letter]) -> None:
            raise RuntimeError(len(rows))

        script.answer = tear
        rows = script.letters(8)

        one_pass(Letter)

        assert {reason(row) for row in rows} == {"RuntimeError: 1"}
        assert Counter(script.sizes) == {8: 1, 4: 2, 2: 4, 1: 8}

    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            (
                lambda rows: [],
                "ValueError: {check} got 1 row and returned 0 answers; return one for each row, "
                "in the order of the rows, or a mapping from rows to answers.",
            ),
            (
                lambda rows: 42,
                "TypeError: {check} returned 42; the check of a batch returns an answer for each "
                "row, a mapping from rows or their primary keys to answers, or one state, name or "
                "None for all.",
            ),
            (
                lambda rows: {0: "done"},
                "ValueError: {check} returned an answer for 0, which is none of the rows that it "
                "got; use the rows or their primary keys as keys.",
            ),
        ],
    )
    def test_an_answer_that_does_not_tell_which_row_gets_what(
        self, script: ScriptedCheck, answer: Any, told: str
    ) -> None:
        script.answer = lambda rows: answer(rows) if any(row.value for row in rows) else "done"
        rows = [*script.letters(5), *script.letters(1, value=1)]

        one_pass(Letter)

        assert states(rows) == ["done"] * 5 + [script.state]
        assert reason(rows[-1]) == told.format(check=f"LetterStates.check_{script.state}")

    def test_the_next_call_does_not_find_what_the_failed_one_did_to_its_rows(
        self, script: ScriptedCheck
    ) -> None:
        def add_and_tear(rows: list[Letter]) -> str:
            for row in rows:
                row.value += 1
            if len(rows) > 2:
                raise RuntimeError
            seen.extend(row.value for row in rows)
            return "done"

        seen: list[int] = []
        script.answer = add_and_tear
        rows = script.letters(8)

        one_pass(Letter)

        assert set(states(rows)) == {"done"}
        assert seen == [1] * 8

    def test_a_row_that_moved_since_is_left_out_of_the_next_call(
        self, script: ScriptedCheck
    ) -> None:
        def move_and_tear(rows: list[Letter]) -> str:
            if len(rows) == 8:
                moved = Letter.objects.filter(pk__in=keys(rows)[2:4])
                Letter.state_transition_queryset(moved, "waiting")
                raise RuntimeError
            return "done"

        script.on_a_thread = True
        script.answer = move_and_tear
        rows = script.letters(8)

        runner = one_pass(Letter)

        assert states(rows) == ["done"] * 2 + ["waiting"] * 2 + ["done"] * 4
        assert script.calls[0] == keys(rows)
        assert sorted(script.calls[1:]) == [keys(rows[:2]), keys(rows[4:])]
        assert runner.counters.total("superseded") == 2


class TestAlone:
    def test_rows_that_have_failed_spoil_no_batch(self, script: ScriptedCheck) -> None:
        bad, good = script.letters(3, state_failures=1), script.letters(5)

        one_pass(Letter)

        assert sorted(script.calls) == [[row.pk] for row in bad] + [keys(good)]
        assert set(states(bad + good)) == {"done"}

    def test_rows_that_lapsed_twice_spoil_no_batch(self, script: ScriptedCheck) -> None:
        bad, good = script.letters(3), script.letters(5)
        lapse(bad, times=2)

        one_pass(Letter)

        assert sorted(script.calls) == [[row.pk] for row in bad] + [keys(good)]
        assert set(states(bad + good)) == {"done"}
        assert not FailureRecord.objects.filter(resolved=None).exists()

    def test_rows_that_lapsed_once_are_in_one_as_ever(self, script: ScriptedCheck) -> None:
        noted: list[list[int]] = []

        def look(rows: list[Letter]) -> str:
            noted.append([failure(row).deaths for row in rows])  # type: ignore[union-attr]
            return "done"

        script.answer, script.on_a_thread = look, True
        rows = script.letters(8)
        lapse(rows)

        one_pass(Letter)

        assert script.calls == [keys(rows)]
        assert noted == [[1] * 8], "should the process die now"
        assert set(states(rows)) == {"done"}
        assert not FailureRecord.objects.filter(resolved=None).exists()

    def test_three_failures_lead_to_the_failure_state(self, script: ScriptedCheck) -> None:
        script.answer = lambda rows: [ValueError("no") for _ in rows]
        rows = script.letters(2, state_failures=2)

        one_pass(Letter)

        assert set(states(rows)) == {"failed"}
        assert {failure(row).count for row in rows} == {1}  # type: ignore[union-attr]
