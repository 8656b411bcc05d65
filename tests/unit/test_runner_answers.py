"""What the check of a batch may return, and the exact sentence for what it may not."""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import pytest

from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.runner.execution.answers import answers, refuse_answer
from tests.app.models import Letter, LetterStates, Trouble, UUIDKey

ROWS = [Letter(pk=1), Letter(pk=2), Letter(pk=3)]
WANTED = (
    "the check of a batch returns an answer for each row, a mapping from rows or their primary "
    "keys to answers, or one state, name or None for all."
)


def answered(result: Any) -> list[Any]:
    return answers("Graph.check", result, ROWS, [1, 2, 3])


def refused(result: Any) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        answered(result)
    return str(caught.value)


@pytest.mark.parametrize("one", [None, "done", LetterStates.done])
def test_one_for_all(one: Any) -> None:
    assert answered(one) == [one] * 3


@pytest.mark.parametrize("kind", [list, tuple, deque])
def test_one_for_each(kind: Any) -> None:
    error = ValueError()

    assert answered(kind(["done", None, error])) == ["done", None, error]


def test_a_dictionary_answers_row_by_row() -> None:
    assert answered({ROWS[1]: "done", Letter(pk=3): "failed"}) == [None, "done", "failed"]


def test_by_primary_key() -> None:
    assert answered({3: "done", 1: "failed"}) == ["failed", None, "done"]


def test_by_a_row_that_the_check_has_deleted() -> None:
    rows = [Letter(pk=1), Letter(pk=2)]
    result = {rows[0]: "done"}
    rows[0].pk = None

    assert answers("Graph.check", result, rows, [1, 2]) == ["done", None]


def test_by_other_kinds_of_keys() -> None:
    row = UUIDKey()

    assert answers("Graph.check", {row.pk: "done"}, [row], [row.pk]) == ["done"]


def test_an_empty_dictionary_leaves_all_rows() -> None:
    assert answered({}) == [None] * 3


@pytest.mark.parametrize(
    "key", [4, "1", None, Trouble(pk=1)], ids=["number", "text", "none", "of another model"]
)
def test_a_key_that_is_none_of_them(key: Any) -> None:
    assert refused({key: "done"}) == (
        f"Graph.check returned an answer for {key!r}, which is none of the rows that it got; "
        f"use the rows or their primary keys as keys."
    )


def test_two_answers_for_one_row() -> None:
    assert refused({ROWS[1]: "done", 2: "failed"}) == (
        "Graph.check returned two answers for the row 2; return one."
    )


@pytest.mark.parametrize("number", [0, 2, 4])
def test_another_number_of_answers(number: int) -> None:
    assert refused(["done"] * number) == (
        f"Graph.check got 3 rows and returned {number} answers; return one for each row, in the "
        f"order of the rows, or a mapping from rows to answers."
    )


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (42, "42"),
        ({"done"}, "{'done'}"),
        (b"xyz", "b'xyz'"),
        (True, "True"),
        (TryAgainLater(), "TryAgainLater(None)"),
        ({}.values(), "dict_values([])"),
    ],
)
def test_an_answer_of_another_type_is_refused(result: Any, shown: str) -> None:
    assert refused(result) == f"Graph.check returned {shown}; {WANTED}"


def test_a_generator_is_not_walked_over() -> None:
    told = refused("done" for _ in ROWS)

    assert re.fullmatch(r"Graph\.check returned <generator.*>; " + re.escape(WANTED), told)


def test_what_is_long_is_cut_short() -> None:
    assert refused(set(range(1000))) == (
        f"Graph.check returned {{0, 1, 2, 3, 4, 5, ...}}; {WANTED}"
    )


async def forgotten() -> str:
    return "done"


def test_a_coroutine_instead_of_an_answer_is_refused() -> None:
    assert refused(forgotten()) == (
        "Graph.check is no async def, but returned an awaitable (coroutine), which was not run; "
        "write it, and what decorates it, as async def."
    )


class TestOneAnswer:
    @pytest.mark.parametrize(
        "answer", [None, "done", LetterStates.done, TryAgainLater(5), SystemExit(1)]
    )
    def test_these_answers_are_allowed(self, answer: Any) -> None:
        refuse_answer("Graph.check", answer)

    @pytest.mark.parametrize("answer", [42, True, ["done"], ValueError])
    def test_other_answers_are_refused(self, answer: Any) -> None:
        with pytest.raises(TypeError) as caught:
            refuse_answer("Graph.check", answer)

        assert str(caught.value) == (
            f"Graph.check answered {answer!r} for this row; an answer is a state, the name of one, "
            f"None, TryAgainLater() or an exception."
        )

    def test_a_coroutine_is_refused(self) -> None:
        with pytest.raises(TypeError) as caught:
            refuse_answer("Graph.check", forgotten())

        assert str(caught.value) == (
            "Graph.check answered with an awaitable (coroutine), which was not run; await it, for "
            "instance in asyncio.gather(), before the check returns."
        )
