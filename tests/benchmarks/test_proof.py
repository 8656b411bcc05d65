from __future__ import annotations

import pytest

from benchmarks.proof import problems


def test_each_once_is_no_problem() -> None:
    assert problems([1, 2, 3], [3, 1, 2]) == []


@pytest.mark.parametrize(
    ("handled", "left", "problem"),
    [
        ([1, 2], 0, "1 of 3 never ran"),
        ([1, 2, 3, 3, 3], 0, "2 of 3 ran again"),
        ([1, 2, 3, 4, 4], 0, "2 ran that nobody had asked for"),
        ([1, 2, 3], 1, "1 are not finished in the store"),
    ],
)
def test_what_is_wrong_is_counted(handled: list[int], left: int, problem: str) -> None:
    assert problems([1, 2, 3], handled, left) == [problem]


def test_one_that_is_missing_is_not_made_up_for_by_one_that_is_doubled() -> None:
    assert problems([1, 2, 3], [1, 2, 2]) == ["1 of 3 never ran", "1 of 3 ran again"]


def test_a_key_that_is_expected_twice_has_to_run_twice() -> None:
    assert problems([1, 1], [1, 1]) == []
    assert problems([1, 1], [1]) == ["1 of 2 never ran"]
