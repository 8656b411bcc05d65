from __future__ import annotations

import gc
import weakref

import pytest

from django_fsmworker.runner.interpreter_tuning import NEWEST, collecting_seldom


@pytest.fixture(autouse=True)
def _put_back():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_what_was_loaded_before_is_left_out_and_looked_at_again_afterwards():
    before: list[object] = []

    with pytest.raises(KeyError), collecting_seldom():
        after: list[object] = []
        looked_at = {id(each) for each in gc.get_objects()}
        assert id(before) not in looked_at
        assert id(after) in looked_at
        raise KeyError

    assert any(each is before for each in gc.get_objects())


def test_garbage_of_before_is_not_kept():
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    gone = weakref.ref(Cycle())

    with collecting_seldom():
        assert gone() is None


@pytest.mark.parametrize(
    ("own", "inside"), [(700, NEWEST), (2 * NEWEST, 2 * NEWEST), (0, 0)], ids=str
)
def test_the_newest_are_looked_at_seldom_and_the_threshold_is_put_back(own, inside):
    gc.set_threshold(own, 10, 20)

    with pytest.raises(KeyError), collecting_seldom():
        assert gc.get_threshold() == (inside, 10, 20)
        raise KeyError

    assert gc.get_threshold() == (own, 10, 20)
