from __future__ import annotations

import gc
import weakref

import pytest

from django_fsmworker.runner.collecting import sparing_what_lasts


def test_what_was_loaded_before_is_left_out_and_looked_at_again_afterwards():
    before: list[object] = []

    with pytest.raises(KeyError), sparing_what_lasts():
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

    with sparing_what_lasts():
        assert gone() is None
