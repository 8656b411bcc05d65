"""How a check is written: whether it is async."""

from __future__ import annotations

import functools

import pytest

from django_fsmworker.graph import State
from tests.unit.graphs import check, define, straight


class Called:
    def __call__(self, graph, row): ...


class AsyncCalled:
    async def __call__(self, graph, row): ...


async def slow(graph, row): ...


class TestIsAsync:
    @pytest.mark.parametrize(
        "function",
        [
            classmethod(slow),
            staticmethod(functools.partial(slow, None)),
            classmethod(AsyncCalled()),
            classmethod(functools.partial(slow)),
        ],
    )
    def test_these_checks_are_async(self, function):
        graph = define(straight, new=State(), done=State(), check_new=function)

        assert (graph.new.is_async, graph.done.is_async) == (True, False)

    @pytest.mark.parametrize("function", [check, classmethod(Called())])
    def test_these_checks_are_not_async(self, function):
        assert not define(straight, new=State(), done=State(), check_new=function).new.is_async

    def test_async_on_a_manual_state_runs_nowhere(self):
        graph = define(straight, new=State(manual=True), done=State(), check_new=classmethod(slow))

        assert not graph.new.is_async
