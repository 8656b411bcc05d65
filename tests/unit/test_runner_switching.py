from __future__ import annotations

import sys

import pytest

from django_fsmworker.runner.interpreter_tuning import SECONDS, switching_soon


@pytest.fixture(autouse=True)
def _put_back():
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_threads_switch_sooner_and_the_interval_is_put_back():
    sys.setswitchinterval(0.005)

    with pytest.raises(KeyError), switching_soon():
        inside = sys.getswitchinterval()
        raise KeyError

    assert inside == pytest.approx(SECONDS)
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_a_shorter_interval_is_kept():
    sys.setswitchinterval(0.0005)

    with switching_soon():
        assert sys.getswitchinterval() == pytest.approx(0.0005, rel=0.01)
