"""Transitions with a condition: what a graph makes of them, and what it refuses."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from django.db.models import BooleanField, Exists, F, OuterRef, Q, Value
from django.db.models.expressions import Func
from django.db.models.functions import Abs
from django.db.models.lookups import GreaterThan

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import State, StateGraph, Transition
from testapp.models import Endpoint

check = classmethod(lambda cls, row: None)

PAID, LATE = Q(paid=True), Q(late=True)


class Condition:
    """Anything may be a condition that says so: a graph knows nothing of Django."""

    conditional = True


def derive(parent, **members) -> Any:
    return type("Child", (parent,), members)


def define(edges, **members) -> Any:
    edges(**{name: value for name, value in members.items() if isinstance(value, State)})
    return type("Graph", (StateGraph,), members)


def refusal(edges, **members):
    with pytest.raises(GraphError) as caught:
        define(edges, **members)
    return str(caught.value)


def guarded(new, done, **others):
    new.transitions_to(done, when=PAID)


class TestEdges:
    def test_carry_their_condition(self):
        graph = define(guarded, new=State(), done=State())

        (edge,) = graph.new.transitions

        assert edge == Transition(graph.new, graph.done, "guard", None, PAID)
        assert edge.when is PAID
        assert graph.new.children == {"done"}
        assert graph.done.parents == {"new"}

    def test_keep_the_order_of_their_declaration(self):
        def edges(new, late, done):
            new.transitions_to(late, when=LATE)
            new.timeout_to(done, 60)
            new.transitions_to(done, late, when=PAID)

        graph = define(edges, new=State(), late=State(), done=State())

        assert [(edge.target.name, edge.when) for edge in graph.new.guards] == [
            ("late", LATE),
            ("done", PAID),
            ("late", PAID),
        ]

    def test_the_same_edge_with_and_without_a_condition(self):
        def edges(new, done):
            new.transitions_to(done, when=PAID)
            new.transitions_to(done)
            new.transitions_to(done, when=PAID)

        graph = define(edges, new=State(), done=State(), check_new=check)

        assert [edge.kind for edge in graph.new.transitions] == ["guard", "check"]
        assert graph.new.unguarded == {"done"}

    def test_a_check_may_not_ask_for_a_guarded_state(self):
        def edges(new, late, done):
            new.transitions_to(late, when=LATE)
            new.transitions_to(done)

        graph = define(edges, new=State(), late=State(), done=State(), check_new=check)

        assert graph.new.unguarded == {"done"}
        assert graph.new.children == {"done", "late"}

    def test_are_inherited(self):
        def more(late):
            parent.new.transitions_to(late, when=LATE)

        parent = define(guarded, new=State(), done=State())
        late = State()
        more(late)
        graph = derive(parent, late=late)

        assert [(edge.target, edge.when) for edge in graph.new.guards] == [
            (graph.done, PAID),
            (graph.late, LATE),
        ]
        assert len(parent.new.guards) == 1

    def test_stay_when_their_state_is_declared_again(self):
        parent = define(guarded, new=State(), done=State())

        graph = derive(parent, new=State(retry_after=5))

        assert [edge.when for edge in graph.new.guards] == [PAID]
        assert graph.new.swept

    def test_states_are_pickled_by_name(self):
        from testapp.models import DeliveryStates

        assert pickle.loads(pickle.dumps(DeliveryStates.held)) is DeliveryStates.held

    @pytest.mark.parametrize(
        "when",
        [
            PAID,
            ~PAID & LATE,
            Q(),
            Exists(Endpoint.objects.filter(pk=OuterRef("endpoint"))),
            GreaterThan(Abs("amount"), 5),
            Func(F("paid"), function="is_fine", output_field=BooleanField()),
            Condition(),
        ],
    )
    def test_conditions(self, when):
        def edges(new, done):
            new.transitions_to(done, when=when)

        assert define(edges, new=State(), done=State()).new.guards[0].when is when


class TestKinds:
    def test_swept(self):
        graph = define(guarded, new=State(), done=State())

        assert (graph.new.swept, graph.new.automatic, graph.new.checked) == (True, True, False)
        assert (graph.new.manual, graph.new.terminal, graph.new.is_async) == (False, False, False)
        assert graph.swept_states == graph.automatic_states == {"new"}

    def test_with_a_check_it_is_not_swept(self):
        graph = define(guarded, new=State(), done=State(), check_new=check)

        assert (graph.new.swept, graph.new.automatic, graph.new.checked) == (False, True, True)
        assert graph.swept_states == set()

    def test_without_guards(self):
        graph = define(
            lambda new, done: new.transitions_to(done),
            new=State(),
            done=State(),
            check_new=check,
        )

        assert (graph.new.swept, graph.new.checked, graph.done.checked) == (False, True, False)

    def test_a_subclass_may_add_the_check(self):
        parent = define(guarded, new=State(), done=State())

        graph = derive(parent, check_new=check)

        assert (parent.new.swept, graph.new.swept) == (True, False)
        assert graph.new.checked

    def test_timeouts_and_failures_are_other_ways_out(self):
        def edges(new, done, gone):
            new.transitions_to(done, when=PAID)
            new.timeout_to(gone, 60)
            new.fails_to(gone)

        assert define(edges, new=State(max_attempts=3), done=State(), gone=State()).new.swept

    def test_a_state_outside_a_graph(self):
        state = State()

        assert (state.guards, state.unguarded) == ((), frozenset())
        assert (state.swept, state.checked) == (False, False)


class TestRefused:
    @pytest.mark.parametrize("function", [lambda row: True, Q, len])
    def test_what_is_called(self, function):
        def edges(new, done):
            new.transitions_to(done, when=function)

        told = refusal(edges, new=State(), done=State(), check_new=check)

        assert told == (
            f"Graph.new: when={function!r} is called by nobody, because a guard is asked in the"
            " database; give a condition such as Q(paid=True), and write what needs Python in the"
            " check."
        )

    @pytest.mark.parametrize("when", ["paid", {"paid": True}, True, False, F("paid"), Value(3)])
    def test_what_is_no_condition(self, when):
        def edges(new, done):
            new.transitions_to(done, when=when)

        told = refusal(edges, new=State(), done=State(), check_new=check)

        assert told == (
            f"Graph.new: when={when!r} is not a condition of the database; give a Q, an Exists or a"
            " lookup, such as Q(paid=True)."
        )

    def test_in_the_body_of_a_subclass(self):
        parent = define(guarded, new=State(), done=State())

        with pytest.raises(GraphError) as caught:
            parent.new.transitions_to(State(), when="late")

        assert str(caught.value) == (
            "Graph.new: when='late' is not a condition of the database; give a Q, an Exists or a"
            " lookup, such as Q(paid=True)."
        )

    def test_in_a_manual_state(self):
        told = refusal(guarded, new=State(manual=True), done=State())

        assert told == (
            "Graph.new: it is manual, so nobody asks its guards; remove manual=True, or the when="
            " of its transitions."
        )

    def test_back_to_the_state_itself(self):
        def edges(new, done):
            new.transitions_to(done, new, when=PAID)

        told = refusal(edges, new=State(), done=State())

        assert told == (
            "Graph.new: a transition with when= leads back to the state itself, which would never"
            " end; lead to another state."
        )

    def test_another_way_that_nobody_takes(self):
        def edges(new, late, done):
            new.transitions_to(late, when=LATE)
            new.transitions_to(done)

        told = refusal(edges, new=State(), late=State(), done=State())

        assert told == (
            "Graph.new: nobody would take its transition to done, which has no when=, because it"
            " has no check; write a classmethod check_new(cls, instance), or give that transition a"
            " when=."
        )

    def test_neither_check_nor_guard(self):
        told = refusal(lambda new, done: new.timeout_to(done, 5), new=State(), done=State())

        assert told == (
            "Graph.new: it is automatic but has no check; write a classmethod"
            " check_new(cls, instance), or declare it manual=True."
        )

    def test_a_named_check_that_is_not_there(self):
        told = refusal(guarded, new=State("look"), done=State())

        assert told == (
            "Graph.new: it is automatic but has no check; write a classmethod look(cls, instance),"
            " or declare it manual=True."
        )

    @pytest.mark.parametrize(
        ("options", "shown"), [({"deadline": 5}, "deadline"), ({"atomic": True}, "atomic=True")]
    )
    def test_options_of_a_check(self, options, shown):
        told = refusal(guarded, new=State(**options), done=State())

        assert told == (
            f"Graph.new: {shown} is for a check, and it has only guards; remove {shown}, or write a"
            " check."
        )

    def test_sweeps_without_a_pause(self):
        told = refusal(guarded, new=State(retry_after=0), done=State())

        assert told == (
            "Graph.new: retry_after=0 would sweep it without a pause; give more than 0 seconds."
        )

    def test_deletion(self):
        told = refusal(guarded, new=State(delete_after=5), done=State())

        assert told.startswith("Graph.new: delete_after is for terminal and manual states,")


class TestCircles:
    def test_of_guards_that_nothing_leaves(self):
        def edges(a, b):
            a.transitions_to(b, when=PAID)
            b.transitions_to(a, when=LATE)

        def begin(new, a, b):
            new.transitions_to(a, when=PAID)
            edges(a, b)

        told = refusal(begin, new=State(), a=State(), b=State())

        assert told == (
            "Graph: no row can get from new to a terminal or manual state; declare a transition"
            " that leads out, or mark the state where its cycle starts with force_initial=True."
        )
        assert define(edges, a=State(force_initial=True), b=State()).swept_states == {"a", "b"}

    def test_a_guard_decides_as_a_check_does(self):
        """So a circle with one is none of timeouts and failures only."""

        def edges(open, waiting):
            open.timeout_to(waiting, 60)
            waiting.transitions_to(open, when=PAID)

        graph = define(edges, open=State(manual=True, force_initial=True), waiting=State())

        assert graph.swept_states == {"waiting"}
