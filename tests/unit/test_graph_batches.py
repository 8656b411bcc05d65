"""``State(batch=N)``: what is allowed, and the exact sentence for what is not."""

from __future__ import annotations

import pytest
from django.db.models import Q

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import State, StateGraph

check = classmethod(lambda cls, rows: None)


def define(new, **members):
    done = State()
    new.transitions_to(done)
    return type("Graph", (StateGraph,), {"new": new, "done": done, **members})


def refusal(new, **members):
    with pytest.raises(GraphError) as caught:
        define(new, **members)
    return str(caught.value)


@pytest.mark.parametrize("batch", [1, 2, 10_000])
def test_numbers_that_are_allowed(batch):
    graph = define(State(batch=batch), check_new=check)

    assert graph.new.batch == batch
    assert graph.done.batch is None


def test_it_may_be_async():
    async def look(cls, rows): ...

    graph = define(State(batch=5), check_new=classmethod(look))

    assert (graph.new.is_async, graph.new.batch) == (True, 5)


@pytest.mark.parametrize("batch", [0, -1, 10_001, 2.0, "5", True])
def test_numbers_that_are_not(batch):
    told = refusal(State(batch=batch), check_new=check)

    assert told == (
        f"Graph.new: batch={batch!r} is not a whole number from 1 to 10000;"
        " give one, or leave batch out for a check that gets one row."
    )


def test_with_atomic():
    told = refusal(State(batch=5, atomic=True), check_new=check)

    assert told == (
        "Graph.new: batch and atomic=True exclude each other, because in one transaction the"
        " failure of one row would undo all the others; leave one of them out."
    )


def test_in_a_manual_state():
    told = refusal(State(batch=5, manual=True))

    assert told == (
        "Graph.new: no check runs in a terminal or manual state, so nothing would get a batch;"
        " remove batch."
    )


def test_in_a_terminal_state():
    new, done = State(), State(batch=5)
    new.transitions_to(done)

    with pytest.raises(GraphError, match=r"^Graph\.done: no check runs in a terminal or manual"):
        type("Graph", (StateGraph,), {"new": new, "done": done, "check_new": check})


def guarded(new, *others):
    """A graph in which ``new`` leads to ``done`` by a guard, and to others by a check."""
    done = State()
    new.transitions_to(done, when=Q(pk=1))
    members = {"new": new, "done": done}
    for number, other in enumerate(others):
        new.transitions_to(other)
        members[f"other{number}"] = other
    with pytest.raises(GraphError) as caught:
        type("Graph", (StateGraph,), members)
    return str(caught.value)


def test_with_guards_only():
    assert guarded(State(batch=5)) == (
        "Graph.new: batch is for a check, and it has only guards; remove batch, or write a check."
    )


def test_with_guards_and_a_check_that_is_missing():
    assert guarded(State(batch=5), State()) == (
        "Graph.new: nobody would take its transition to other0, which has no when=, because it has"
        " no check; write a classmethod check_new(cls, rows), or give that transition a when=."
    )


def test_without_a_check():
    assert refusal(State(batch=5)) == (
        "Graph.new: it is automatic but has no check; write a classmethod"
        " check_new(cls, rows), or declare it manual=True."
    )


def test_with_a_check_that_is_no_classmethod():
    assert refusal(State(batch=5), check_new=lambda cls, rows: None) == (
        "Graph.new: check_new is not a classmethod;"
        " write it as @classmethod def check_new(cls, rows)."
    )


def test_with_a_check_that_takes_no_list():
    assert refusal(State(batch=5), check_new=classmethod(lambda cls: None)) == (
        "Graph.new: check_new cannot be called with a list of rows;"
        " write it as def check_new(cls, rows)."
    )


def test_a_subclass_gets_it_and_may_redeclare_it():
    parent = define(State(batch=5), check_new=check)

    class Kept(parent):  # type: ignore[valid-type, misc]
        pass

    class Changed(parent):  # type: ignore[valid-type, misc]
        new = State(batch=50)

    assert (Kept.new.batch, Changed.new.batch) == (5, 50)
