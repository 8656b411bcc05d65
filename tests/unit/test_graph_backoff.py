"""Backoffs: the growth, the cap, the jitter and what is refused."""

from __future__ import annotations

import pickle
import random
from datetime import timedelta

import pytest

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import constant, exponential, linear

BACKOFFS = [exponential(base=2), linear(step=5), constant(7)]


class TestExponential:
    def test_it_grows_by_its_base_up_to_its_cap(self):
        wait = exponential(base=2, factor=3, cap=100, jitter=0)

        assert [wait(failures) for failures in range(1, 7)] == [2, 6, 18, 54, 100, 100]

    def test_it_takes_timedeltas(self):
        wait = exponential(base=timedelta(minutes=1), cap=timedelta(hours=1), jitter=0)

        assert (wait(1), wait(2), wait(50)) == (60, 120, 3600)

    def test_jitter_stays_in_its_share(self):
        wait = exponential(base=10, jitter=0.1)

        waits = [wait(1) for _ in range(1000)]

        assert 9 <= min(waits) < 9.5
        assert 10.5 < max(waits) <= 11

    def test_at_the_cap_waits_are_spread_below_it(self):
        wait = exponential(base=10, cap=100, jitter=0.1)

        waits = [wait(10) for _ in range(1000)]

        assert 90 <= min(waits) < 95
        assert max(waits) <= 100
        assert len(set(waits)) > 900

    def test_base_above_the_cap(self):
        assert exponential(base=10, cap=5, jitter=0)(1) == 5

    @pytest.mark.parametrize("failures", [1024, 10_000, 32_767])
    def test_it_stays_at_its_cap_for_many_failures(self, failures):
        assert 3240 <= exponential(base=2)(failures) <= 3600

    @pytest.mark.parametrize("failures", [0, -3])
    def test_fewer_than_one_failure_counts_as_one(self, failures):
        assert exponential(base=2, jitter=0)(failures) == 2

    def test_random_seed_decides(self):
        random.seed(1)
        first = exponential(base=2)(1)
        random.seed(1)

        assert exponential(base=2)(1) == first


def test_linear_grows_by_its_step_up_to_its_cap():
    wait = linear(step=5, cap=12, jitter=0)

    assert [wait(failures) for failures in (0, 1, 2, 3, 10_000)] == [5, 5, 10, 12, 12]
    assert 4.5 <= linear(step=timedelta(seconds=5))(1) <= 5.5


def test_constant_stays_the_same():
    assert [constant(7)(failures) for failures in (1, 2, 10_000)] == [7, 7, 7]
    assert 5 <= constant(timedelta(seconds=10), jitter=0.5)(3) <= 15


def test_full_jitter_is_never_negative():
    assert all(exponential(base=1, jitter=1)(1) >= 0 for _ in range(1000))


def test_a_backoff_s_repr_is_its_call():
    assert [repr(backoff) for backoff in BACKOFFS] == [
        "exponential(base=2.0, factor=2.0, cap=3600.0, jitter=0.1)",
        "linear(step=5.0, cap=3600.0, jitter=0.1)",
        "constant(delay=7.0, jitter=0.0)",
    ]


@pytest.mark.parametrize("backoff", BACKOFFS, ids=repr)
def test_pickle_and_equality(backoff):
    assert pickle.loads(pickle.dumps(backoff)) == backoff
    assert backoff != exponential(base=99)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: exponential(base=0),
            "exponential base=0 is not above zero; give more than 0 seconds.",
        ),
        (
            lambda: exponential(base="2"),  # type: ignore[arg-type]
            "exponential base='2' is not a duration; give a number of seconds or a timedelta.",
        ),
        (
            lambda: exponential(base=2, cap=-1),
            "exponential cap=-1 is not above zero; give more than 0 seconds.",
        ),
        (
            lambda: exponential(base=2, factor=0.5),
            "exponential factor=0.5 is not a number of 1 or more.",
        ),
        (
            lambda: exponential(base=2, factor=float("nan")),
            "exponential factor=nan is not a number of 1 or more.",
        ),
        (
            lambda: exponential(base=2, factor=float("inf")),
            "exponential factor=inf is not a number of 1 or more.",
        ),
        (
            lambda: exponential(base=2, factor=True),
            "exponential factor=True is not a number of 1 or more.",
        ),
        (
            lambda: exponential(base=2, jitter=1.5),
            "exponential jitter=1.5 is not a share from 0 to 1.",
        ),
        (
            lambda: exponential(base=2, jitter=None),  # type: ignore[arg-type]
            "exponential jitter=None is not a share from 0 to 1.",
        ),
        (lambda: linear(step=0), "linear step=0 is not above zero; give more than 0 seconds."),
        (
            lambda: linear(step=1, cap=0),
            "linear cap=0 is not above zero; give more than 0 seconds.",
        ),
        (lambda: linear(step=1, jitter=-1), "linear jitter=-1 is not a share from 0 to 1."),
        (
            lambda: constant(0),
            "constant delay=0 is not above zero; give more than 0 seconds.",
        ),
        (
            lambda: constant(1, jitter="x"),  # type: ignore[arg-type]
            "constant jitter='x' is not a share from 0 to 1.",
        ),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(make, text):
    with pytest.raises(GraphError) as caught:
        make()

    assert str(caught.value) == text
