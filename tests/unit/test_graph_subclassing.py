"""Graphs that derive from graphs."""

from __future__ import annotations

import pickle

import pytest

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import State, StateGraph, Transition

check = classmethod(lambda cls, row: None)


class Parent(StateGraph):
    new = State(retry_after=30, label="New", max_attempts=3)
    done = State()
    failed = State()

    new.transitions_to(done)
    new.timeout_to(failed, 60)
    new.fails_to(failed)

    @classmethod
    def check_new(cls, row):
        return cls.done


class Plain(Parent):
    """No states of its own."""


class Child(Parent):
    extra = State(manual=True)

    Parent.new.transitions_to(extra)
    extra.transitions_to(Parent.done)
    extra.timeout_to(Parent.failed, 10)


class Grandchild(Child):
    last = State()
    Parent.new.transitions_to(last)
    Child.extra.transitions_to(last)


class TestCopies:
    @pytest.mark.parametrize("graph", [Plain, Child, Grandchild])
    def test_are_members_of_the_subclass(self, graph):
        assert graph.new is not Parent.new
        assert graph.new != Parent.new
        assert graph.new.graph is graph
        assert repr(graph.new) == f"<State {graph.__name__}.new>"
        assert graph.states["new"] is graph.new
        assert graph.initial_state is graph.new

    def test_keep_their_options(self):
        assert (Child.new.retry_after, Child.new.label, Child.new.max_attempts) == (30, "New", 3)

    def test_edges_are_remapped(self):
        assert Plain.new.transitions == [
            Transition(Plain.new, Plain.done, "check"),
            Transition(Plain.new, Plain.failed, "timeout", 60.0),
            Transition(Plain.new, Plain.failed, "failure"),
        ]
        assert Plain.new.timeout_state is Plain.new.failure_state is Plain.failed
        assert Plain.done.parents == {Plain.new}

    def test_handler_is_bound_to_the_subclass(self):
        assert Child.new.handler("a row") is Child.done

    def test_pickle(self):
        assert pickle.loads(pickle.dumps(Child.new)) is Child.new

    def test_groups(self):
        assert Child.choices == [
            ("new", "New"),
            ("done", "done"),
            ("failed", "failed"),
            ("extra", "extra"),
        ]
        assert Child.timeout_states == {Child.new, Child.extra}
        assert Child.terminal_states == {Child.done, Child.failed}


class TestParent:
    def test_is_unchanged(self):
        assert list(Parent.states) == ["new", "done", "failed"]
        assert len(Parent.new.transitions) == 3
        assert Parent.done.parents == {Parent.new}
        assert all(state.graph is Parent for state in Parent.states.values())


class TestNewEdges:
    def test_on_the_parents_states(self):
        assert [str(edge.target) for edge in Child.new.transitions] == [
            "done",
            "failed",
            "failed",
            "extra",
        ]
        assert Child.extra.transitions == [
            Transition(Child.extra, Child.done, "check"),
            Transition(Child.extra, Child.failed, "timeout", 10.0),
        ]
        assert all(e.target.graph is Child for s in Child.states.values() for e in s.transitions)

    def test_on_a_grandparents_states(self):
        assert Grandchild.last.parents == {Grandchild.new, Grandchild.extra}
        assert list(Grandchild.states) == ["new", "done", "failed", "extra", "last"]

    def test_in_order_of_declaration(self):
        class Graph(Parent):
            one = State()
            two = State()
            Parent.new.transitions_to(two)
            Parent.new.transitions_to(one)

        assert [str(edge.target) for edge in Graph.new.transitions[3:]] == ["two", "one"]

    def test_a_terminal_state_may_lead_on(self):
        class Graph(Parent):
            archived = State()
            Parent.done.transitions_to(archived)
            check_done = check

        assert Graph.done.automatic
        assert not Graph.done.manual
        assert Parent.done.terminal

    def test_inherited_ones_again(self):
        class Graph(Parent):
            done = State()
            Parent.new.transitions_to(done)

        assert len(Graph.new.transitions) == 3


class TestRedeclaring:
    def test_replaces_options_and_keeps_edges(self):
        class Graph(Parent):
            new = State(retry_after=1)

        assert (Graph.new.retry_after, Graph.new.label, Graph.new.max_attempts) == (1, "new", None)
        assert len(Graph.new.transitions) == 3
        assert list(Graph.states) == ["new", "done", "failed"]

    def test_edges_may_be_added_by_either_name(self):
        class Graph(Parent):
            new = State(force_initial=True)
            held = State(manual=True)
            new.transitions_to(held)
            held.transitions_to(Parent.new)
            Parent.done.transitions_to(new)
            check_done = check

        assert Graph.new.parents == {Graph.held, Graph.done}

    def test_its_own_timeout_and_failure_replace_the_parents(self):
        class Graph(Parent):
            new = State()
            late = State()
            new.transitions_to(Parent.failed)
            new.timeout_to(late, 5)
            new.fails_to(late)

        assert (Graph.new.timeout_state, Graph.new.timeout_after) == (Graph.late, 5.0)
        assert [edge.kind for edge in Graph.new.transitions] == [
            "check",
            "check",
            "timeout",
            "failure",
        ]

    def test_two_of_its_own_are_too_many(self):
        with pytest.raises(GraphError) as caught:

            class Graph(Parent):
                new = State()
                new.timeout_to(Parent.done, 5)
                new.timeout_to(Parent.failed, 5)

        assert str(caught.value) == (
            "Graph.new: it has more than one timeout_to; keep one of them, or, if a parent graph"
            " declares one, redeclare the state to replace it."
        )

    def test_without_it_a_second_timeout_is_refused(self):
        with pytest.raises(GraphError) as caught:

            class Graph(Parent):
                late = State()
                Parent.new.timeout_to(late, 5)

        assert str(caught.value) == (
            "Graph.new: it has more than one timeout_to; keep one of them, or, if a parent graph"
            " declares one, redeclare the state to replace it."
        )


class TestGet:
    def test_a_parents_state_is_the_copy(self):
        assert Child.get(Parent.new) is Child.new
        assert Child.get("new") is Child.new


class TestMixins:
    def test_checks_may_come_from_one(self):
        class Checks:
            check_new = check

        class Graph(Checks, StateGraph):
            new = State()
            done = State()
            new.transitions_to(done)

        class Others:
            @classmethod
            def check_new(cls, row):
                return cls.done  # type: ignore[attr-defined]

        class Derived(Others, Graph):
            pass

        assert Graph.new.handler("a row") is None
        assert Derived.new.handler("a row") is Derived.done


class TestRefused:
    def test_two_graphs(self):
        with pytest.raises(GraphError) as caught:

            class Graph(Plain, Child):
                pass

        assert str(caught.value) == (
            "Graph: it derives from the graphs Plain and Child; derive from one of them, and put"
            " what the others share into a plain mixin without states."
        )

    def test_a_method_over_a_state(self):
        with pytest.raises(GraphError) as caught:

            class Graph(Parent):
                done = check  # type: ignore[assignment]

        assert str(caught.value) == (
            "Graph.done: Parent.done is a state, and a method would hide it; rename the method."
        )

    def test_a_parents_state_again(self):
        with pytest.raises(GraphError) as caught:

            class Graph(Parent):
                new = Parent.new

        assert str(caught.value) == (
            "Graph.new: this State object is Parent.new already;"
            " give each name a State() of its own."
        )

    def test_between_two_of_the_parents_states(self):
        with pytest.raises(GraphError) as caught:

            class Graph(Parent):
                Parent.done.transitions_to(Parent.failed)

        assert str(caught.value) == (
            "Parent.done: transitions_to <State Parent.failed> comes too late, because both states"
            " belong to finished graphs; redeclare one of them in the body of a subclass and"
            " declare the transition there."
        )

    def test_a_failed_subclass_leaves_the_parent_alone(self):
        with pytest.raises(GraphError):

            class Graph(Parent):
                extra = State(retry_after=-1)
                Parent.new.transitions_to(extra)

        assert len(Parent.new.transitions) == 3
        assert Parent.new.graph is Parent
