"""What a check raises to be tried later: durations only, and ready to be sent elsewhere."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker.exceptions import Pause, Retry, TryAgainLater, answer_in


@pytest.mark.parametrize("kind", [Retry, TryAgainLater])
@pytest.mark.parametrize("value", ["120", "Wed, 21 Oct 2026 07:28:00 GMT", True, b"1", [1]])
def test_what_is_no_duration_is_refused_at_once(kind: Any, value: object) -> None:
    with pytest.raises(TypeError) as caught:
        kind(value)

    assert str(caught.value) == (
        f"{kind.__name__} takes a number of seconds or a timedelta, not {value!r}; convert a "
        f"Retry-After header, which is text: a number, or a date."
    )


@pytest.mark.parametrize("value", [0, 1.5, timedelta(minutes=2)])
def test_durations_are_kept(value: Any) -> None:
    assert TryAgainLater(value).delay == value
    assert Retry(value).after == Retry(after=value).after == value


def test_defaults() -> None:
    assert (TryAgainLater().delay, TryAgainLater().keep_failures) == (None, False)
    assert str(Retry(120)) == "The check asked for another try after 120 s."
    assert str(Retry(timedelta(minutes=2))) == "The check asked for another try after 0:02:00."
    assert str(Retry(120, "busy")) == "busy"


@pytest.mark.parametrize("said", [TryAgainLater(5), Retry(5), Pause(5)])
def test_a_group_of_one_kind_says_what_its_first_does(said: Exception) -> None:
    same = type(said)(9)

    assert answer_in(ExceptionGroup("tasks", [ExceptionGroup("more", [said]), same])) is said


def test_a_group_of_several_kinds_is_a_failure() -> None:
    for other in (ValueError(), Retry(5), ExceptionGroup("more", [ValueError()])):
        group = ExceptionGroup("tasks", [TryAgainLater(5), other])

        assert answer_in(group) is group


def test_they_can_be_pickled() -> None:
    later = pickle.loads(pickle.dumps(TryAgainLater(5, keep_failures=True)))
    retry = pickle.loads(pickle.dumps(Retry(after=5, message="busy")))

    assert (later.delay, later.keep_failures) == (5, True)
    assert (retry.after, str(retry)) == (5, "busy")
