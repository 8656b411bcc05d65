"""Durations: seconds or timedelta in, float seconds out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.durations import LONGEST, Duration, as_seconds, earliest, span


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0.0), (5, 5.0), (0.25, 0.25), (timedelta(minutes=2), 120.0), (LONGEST, LONGEST)],
)
def test_a_duration_becomes_seconds(value, expected):
    result = as_seconds(value, "retry_after")

    assert result == expected
    assert type(result) is float


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5", "delay='5' is not a duration; give a number of seconds or a timedelta."),
        (None, "delay=None is not a duration; give a number of seconds or a timedelta."),
        (True, "delay=True is not a duration; give a number of seconds or a timedelta."),
        (
            float("nan"),
            "delay=nan is not a duration; give a number of seconds or a timedelta.",
        ),
        (-1, "delay=-1 is negative; give 0 seconds or more."),
        (
            timedelta(seconds=-1),
            "delay=datetime.timedelta(days=-1, seconds=86399) is negative; give 0 seconds or more.",
        ),
        (float("-inf"), "delay=-inf is negative; give 0 seconds or more."),
        (float("inf"), "delay=inf is longer than 100 years; give fewer seconds."),
        (timedelta(days=40_000), "is longer than 100 years; give fewer seconds."),
        (10**40, "is longer than 100 years; give fewer seconds."),
    ],
)
def test_what_is_no_duration_is_refused(value, text):
    with pytest.raises(GraphError) as caught:
        as_seconds(value, "delay")

    assert str(caught.value).endswith(text)
    assert str(caught.value).startswith("delay=")


def test_an_int_beyond_any_float():
    with pytest.raises(GraphError):
        as_seconds(10**400, "delay")


@pytest.mark.parametrize("value", [0, -1, timedelta(0)])
def test_zero_is_refused_where_it_has_to_be_above(value):
    with pytest.raises(GraphError) as caught:
        as_seconds(value, "deadline", above_zero=True)

    assert str(caught.value) == f"deadline={value!r} is not above zero; give more than 0 seconds."


@pytest.mark.parametrize(
    ("durations", "shortest"),
    [((None, None), None), ((None, 5.0), 5.0), ((7.0, 5.0), 5.0), ((0.0, None), 0.0)],
)
def test_the_earliest_leaves_out_what_is_never(durations, shortest):
    assert earliest(*durations) == shortest


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0004, "0 s"),
        (0.0412, "41 ms"),
        (0.0999, "100 ms"),
        (0.18, "0.2 s"),
        (42, "42 s"),
        (-90, "1 min 30 s"),
        (timedelta(hours=3, minutes=20), "3 h 20 min"),
        (86400, "1 d"),
    ],
)
def test_a_length_of_time_is_shown(seconds: Duration, text: str) -> None:
    assert span(seconds) == text
