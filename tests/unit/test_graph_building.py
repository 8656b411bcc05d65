"""Building a graph from the body of its class, also where it derives from another graph."""

from __future__ import annotations

import pickle

import pytest

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import State, StateGraph, Transition
from tests.unit.graphs import check, refusal


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

    def test_a_copied_state_is_pickled_as_itself(self):
        assert pickle.loads(pickle.dumps(Child.new)) is Child.new

    def test_groups_are_those_of_the_child(self):
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
    def test_they_follow_those_of_the_parent_s_states(self):
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

    def test_they_may_leave_a_grandparent_s_states(self):
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

    def test_an_inherited_one_declared_again_is_one(self):
        class Graph(Parent):
            done = State()
            Parent.new.transitions_to(done)

        assert len(Graph.new.transitions) == 3


class TestRedeclaring:
    def test_replaces_options_and_keeps_edges(self):
        class Graph(Parent):
            new = State(retry_after=1, max_attempts=9)

        assert (Graph.new.retry_after, Graph.new.label, Graph.new.max_attempts) == (1, "new", 9)
        assert len(Graph.new.transitions) == 3
        assert list(Graph.states) == ["new", "done", "failed"]

    def test_edges_may_be_added_by_either_name(self):
        class Graph(Parent):
            new = State(force_initial=True, max_attempts=3)
            held = State(manual=True)
            new.transitions_to(held)
            held.transitions_to(Parent.new)
            Parent.done.transitions_to(new)
            check_done = check

        assert Graph.new.parents == {Graph.held, Graph.done}

    def test_its_own_timeout_and_failure_replace_the_parents(self):
        class Graph(Parent):
            new = State(max_attempts=3)
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
    def test_deriving_from_two_graphs_is_refused(self):
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


class TestMembers:
    def test_a_graph_without_states_is_refused(self):
        with pytest.raises(GraphError) as caught:

            class Empty(StateGraph):
                pass

        assert str(caught.value) == (
            "Empty: it has no states; declare at least one, such as new = State()."
        )

    @pytest.mark.parametrize(
        ("value", "shown"), [(5, "int"), (None, "NoneType"), ("x", "str"), (int, "type")]
    )
    def test_a_member_that_is_neither_state_nor_method_is_refused(self, value, shown):
        with pytest.raises(GraphError) as caught:

            class Graph(StateGraph):
                new = State()
                limit = value

        assert str(caught.value) == (
            f"Graph.limit: a graph holds states and methods, not {shown};"
            " remove it, or start its name with an underscore."
        )

    @pytest.mark.parametrize(
        "name",
        [
            "states",
            "choices",
            "initial_state",
            "terminal_states",
            "manual_states",
            "automatic_states",
            "deletion_states",
            "timeout_states",
            "get",
            "mro",
        ],
    )
    @pytest.mark.parametrize("value", [State(), 5, classmethod(lambda cls: None)])
    def test_a_reserved_name_is_refused(self, name, value):
        with pytest.raises(GraphError) as caught:
            type("Graph", (StateGraph,), {"new": State(), name: value})

        assert str(caught.value) == (
            f"Graph.{name}: StateGraph itself uses this name; choose another name."
        )

    @pytest.mark.parametrize("name", ["_new", "__new"])
    def test_a_state_with_a_leading_underscore_is_refused(self, name):
        with pytest.raises(GraphError) as caught:
            type("Graph", (StateGraph,), {"new": State(), name: State()})

        assert str(caught.value) == (
            f"Graph.{name}: a state's name must not start with an underscore; rename the state."
        )

    def test_one_state_with_two_names(self):
        with pytest.raises(GraphError) as caught:

            class Graph(StateGraph):
                new = State()
                fresh = new

        assert str(caught.value) == (
            "Graph.fresh: this is the same State object as Graph.new;"
            " give each name a State() of its own."
        )

    def test_a_state_of_another_graph(self):
        with pytest.raises(GraphError) as caught:

            class Graph(StateGraph):
                new = Parent.new

        assert str(caught.value) == (
            "Graph.new: this State object is Parent.new already;"
            " give each name a State() of its own."
        )

    def test_a_state_in_a_mixin(self):
        class Mixin:
            lost = State()

        with pytest.raises(GraphError) as caught:

            class Graph(Mixin, StateGraph):
                new = State()

        assert str(caught.value) == (
            "Graph: Mixin.lost is a State in a class that is no StateGraph; declare it in Graph."
        )


class TestEnds:
    """The states that a transition may lead from and to."""

    def test_a_state_without_a_name(self):
        def edges(new):
            new.transitions_to(State())

        told = refusal(edges, new=State(), check_new=check)

        assert told == (
            "Graph.new: a transition leads to a State without a name;"
            " assign that State to a name in the body of Graph."
        )

    def test_a_transition_to_another_graph_is_refused(self):
        def edges(start):
            start.transitions_to(Parent.new)

        told = refusal(edges, start=State(), check_start=check)

        assert told == (
            "Graph: the transition from <State Graph.start> to <State Parent.new> uses a state of"
            " another graph; declare a state of its own in Graph."
        )

    def test_a_transition_from_another_graph_is_refused(self):
        def edges(start):
            Parent.new.transitions_to(start)

        told = refusal(edges, start=State())

        assert told == (
            "Graph: the transition from <State Parent.new> to <State Graph.start> uses a state of"
            " another graph; declare a state of its own in Graph."
        )
