"""StateGraph: what it collects and offers."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

import django_fsmworker.graph
from django_fsmworker.exceptions import UnknownState
from django_fsmworker.graph import State, StateGraph, exponential


class BasicStates(StateGraph):
    """The graph of the ancestor's tests."""

    new = State(retry_after=5)
    slow = State(retry_after=5)
    done = State(externally_progressed=True)
    timed_out = State(delete_after=10)
    pending_delete = State(retry_after=5, start_after=5)
    deleted = State(delete_after=10)

    new.transitions_to(done)
    new.transitions_to(slow)
    new.transitions_to(pending_delete)
    new.timeout_to(timed_out, seconds=10)
    slow.transitions_to(done)
    done.transitions_to(pending_delete)
    pending_delete.transitions_to(deleted)

    check_new = classmethod(lambda cls, instance: None)
    check_slow = classmethod(lambda cls, instance: cls.done)
    check_pending_delete = classmethod(lambda cls, instance: cls.deleted)


class OrderStates(StateGraph):
    new = State(retry_after=30)
    paid = State(max_attempts=5, backoff=exponential(base=2))
    shipped = State(delete_after=timedelta(days=30), label="Shipped")
    failed = State()

    new.transitions_to(paid)
    new.timeout_to(failed, seconds=3600)
    paid.transitions_to(shipped)
    paid.fails_to(failed)

    # What else a graph's body may hold.
    _private: ClassVar[set[int]] = {1, 2}
    note: ClassVar[str]

    check_new = classmethod(lambda cls, order: cls.paid)

    @staticmethod
    def check_paid(order):
        return "shipped"

    a_property = property(lambda self: 1)
    a_method = lambda self: 2  # noqa: E731


def test_a_graph_has_no_metaclass():
    assert type(OrderStates) is type


def test_states_in_order_of_declaration():
    assert list(BasicStates.states) == [
        "new",
        "slow",
        "done",
        "timed_out",
        "pending_delete",
        "deleted",
    ]
    assert all(getattr(BasicStates, name) is state for name, state in BasicStates.states.items())


def test_choices_are_names_and_labels():
    assert OrderStates.choices == [
        ("new", "new"),
        ("paid", "paid"),
        ("shipped", "Shipped"),
        ("failed", "failed"),
    ]


def test_states_are_grouped_by_what_moves_them():
    assert BasicStates.initial_state is BasicStates.new
    assert BasicStates.terminal_states == {"timed_out", "deleted"}
    assert BasicStates.automatic_states == {"new", "slow", "pending_delete"}
    assert BasicStates.manual_states == {"done"}
    assert BasicStates.deletion_states == {"timed_out", "deleted"}
    assert BasicStates.timeout_states == {"new"}


def test_the_states_of_a_group_are_in_order_of_declaration():
    """In each process: lists made of them are in migrations, and in choices."""
    names = [f"state_{number}" for number in range(12)]
    ends = {name: State(delete_after=1) for name in names}
    first = State()
    for end in ends.values():
        first.transitions_to(end)
    check = classmethod(lambda cls, row: None)

    graph: Any = type("Graph", (StateGraph,), {"first": first, **ends, "check_first": check})

    assert [str(state) for state in graph.terminal_states] == names
    assert [str(state) for state in graph.deletion_states] == names
    assert pickle.loads(pickle.dumps(OrderStates.terminal_states)) == OrderStates.terminal_states


def test_groups_of_orders():
    assert OrderStates.terminal_states == {OrderStates.shipped, OrderStates.failed}
    assert OrderStates.automatic_states == {OrderStates.new, OrderStates.paid}
    assert OrderStates.manual_states == set()
    assert OrderStates.timeout_states == {OrderStates.new}


def test_a_static_check():
    assert OrderStates.paid.handler("an order") == "shipped"


def test_deletion_at_once():
    class Graph(StateGraph):
        gone = State(delete_after=0)

    assert Graph.deletion_states == {"gone"}


def test_a_cycle_with_force_initial():
    class Graph(StateGraph):
        waiting = State(force_initial=True)
        fetching = State()
        waiting.transitions_to(fetching)
        fetching.transitions_to(waiting)
        check_waiting = check_fetching = classmethod(lambda cls, row: None)

    assert Graph.initial_state is Graph.waiting
    assert Graph.terminal_states == set()


def test_class_keywords_reach_a_mixin():
    class Mixin:
        _colour = ""

        def __init_subclass__(cls, colour, **kwargs):
            super().__init_subclass__(**kwargs)
            cls._colour = colour

    class Graph(StateGraph, Mixin, colour="red"):
        new = State()

    assert Graph._colour == "red"


class TestGet:
    @pytest.mark.parametrize("state", ["paid", OrderStates.paid])
    def test_a_known_state_is_found_by_name_or_itself(self, state):
        assert OrderStates.get(state) is OrderStates.paid

    @pytest.mark.parametrize(
        ("state", "shown"),
        [
            ("piad", "'piad'"),
            ("", "''"),
            (None, "None"),
            ([], "[]"),
            (BasicStates.new, "<State BasicStates.new>"),
            (State(), "<State without a graph>"),
        ],
    )
    def test_an_unknown_state_is_refused(self, state, shown):
        with pytest.raises(UnknownState) as caught:
            OrderStates.get(state)

        assert str(caught.value) == (
            f"{shown} is not a state of OrderStates; its states are: new, paid, shipped, failed."
        )


class TestPackage:
    def test_imports_no_django(self):
        names = [m.name for m in pkgutil.iter_modules(django_fsmworker.graph.__path__)]
        imports = "; ".join(f"import django_fsmworker.graph.{name}" for name in names)

        found = subprocess.run(
            [
                sys.executable,
                "-c",
                f"{imports}; import sys; print([m for m in sys.modules if m[:7] == 'django.'])",
            ],
            cwd=Path(django_fsmworker.graph.__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )

        assert found.stdout.strip() == "[]"

    def test_its_public_names_are_these(self):
        module = importlib.import_module("django_fsmworker.graph")

        assert module.__all__ == [
            "Backoff",
            "Breaker",
            "Duration",
            "EventInfo",
            "EventTransition",
            "Lifetime",
            "LimitOptions",
            "Limits",
            "Rate",
            "State",
            "StateGraph",
            "Transition",
            "constant",
            "exponential",
            "linear",
        ]
        assert all(hasattr(module, name) for name in module.__all__)
