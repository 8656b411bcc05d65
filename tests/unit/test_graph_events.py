"""``State.on()``: what is declared, inherited and refused, with the exact sentences."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from django.db.models import Q

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import EventInfo, EventTransition, State, StateGraph
from django_fsmworker.graph.events import resolve
from tests.unit.graphs import PAID, check, define, derive, refusal, straight

asked = classmethod(lambda cls, row, event: None)


class Sales(StateGraph, unhandled="discard"):
    held = State(manual=True)
    pending = State()
    done = State()

    @classmethod
    def is_large(cls, row: Any, event: EventInfo) -> bool:
        return bool(row > 10)

    @classmethod
    async def note(cls, row: Any, event: EventInfo) -> str:
        return "parent's"

    held.on("release", to=pending, when=PAID, permission="shop.release", label="Let go")
    held.on("release", to=done, when=is_large, action="note")
    held.on("look", action=note)
    pending.transitions_to(done)
    pending.on("cancel", to=done, interrupts=True, unhandled="fail")
    done.on("look", action=note)

    @classmethod
    def check_pending(cls, row: Any) -> None: ...


class TestDeclared:
    def test_by_trigger_in_their_order(self):
        first, second = Sales.held.events["release"]

        assert first == EventTransition(
            Sales.held, Sales.pending, "release", PAID, None, "shop.release", None, "Let go"
        )
        assert (second.target, second.action) == (Sales.done, "note")
        assert [list(state.events) for state in Sales.states.values()] == [
            ["release", "look"],
            ["cancel"],
            ["look"],
        ]
        assert Sales.triggers == {"release", "look", "cancel"}

    def test_their_targets_are_children_that_no_check_may_return(self):
        assert Sales.held.children == {Sales.pending, Sales.done}
        assert Sales.held.unguarded == frozenset()
        assert Sales.pending.parents == {Sales.held}
        assert Sales.held.transitions == []
        assert Sales.initial_state is Sales.held

    def test_one_that_moves_nothing_keeps_a_state_terminal(self):
        assert Sales.terminal_states == {Sales.done}

    def test_a_state_without_a_graph(self):
        assert State().events == {}

    def test_a_cycle_of_timeouts_may_be_left_by_an_event(self):
        def edges(new, late, done):
            new.timeout_to(late, 5)
            late.timeout_to(new, 5)
            new.on("end", to=done)

        graph = define(
            edges, new=State(manual=True, force_initial=True), late=State(manual=True), done=State()
        )

        assert graph.new.children == {"late", "done"}


class TestOptionsOfTheGraph:
    def test_what_is_not_taken(self):
        assert [Sales.unhandled_of(each) for each in ("release", "cancel")] == ["discard", "fail"]

    def test_the_defaults(self):
        graph = define(straight, new=State(), done=State(), check_new=check)

        assert (graph.unhandled, graph.event_order) == ("retry", "row")
        assert graph.triggers == frozenset()

    def test_they_are_inherited(self):
        class Child(Sales, order="none"):
            pass

        assert (Child.unhandled, Child.event_order, Sales.event_order) == ("discard", "none", "row")
        assert Child.unhandled_of("cancel") == "fail"

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            (
                {"unhandled": "drop"},
                "Graph: unhandled='drop' is none of 'retry', 'discard', 'fail'; give one.",
            ),
            ({"order": "fifo"}, "Graph: order='fifo' is none of 'row', 'none'; give one."),
        ],
    )
    def test_what_they_are_not(self, options, text):
        with pytest.raises(GraphError) as caught:
            type("Graph", (StateGraph,), {"new": State(manual=True)}, **options)

        assert str(caught.value) == text


class TestSubclasses:
    def test_they_inherit(self):
        child = derive(Sales)

        (edge,) = child.pending.events["cancel"]
        assert (edge.source, edge.target) == (child.pending, child.done)
        assert edge.interrupts
        assert child.triggers == Sales.triggers

    def test_they_add(self):
        class Child(Sales):
            lost = State()

            Sales.pending.on("lose", to=lost)

        assert [str(edge.target) for edge in Child.pending.events["lose"]] == ["lost"]
        assert "lose" not in Sales.triggers

    def test_a_redeclared_state_replaces_what_it_declares(self):
        class Child(Sales):
            held = State(manual=True)

            held.on("release", to=Sales.pending)

        assert [edge.when for edge in Child.held.events["release"]] == [None]
        assert len(Child.held.events["look"]) == 1
        assert len(Sales.held.events["release"]) == 2

    def test_one_that_moves_nothing_comes_too_late_for_a_finished_graph(self):
        with pytest.raises(GraphError) as caught:
            Sales.held.on("look")

        assert str(caught.value) == (
            "Sales.held: on('look') comes too late, because the state belongs to a finished graph;"
            " redeclare it in the body of a subclass and declare the transition there."
        )

    def test_their_own_methods_count(self):
        class Child(Sales):
            @classmethod
            async def note(cls, row: Any, event: EventInfo) -> str:
                return "child's"

        (edge,) = Child.held.events["look"]
        assert resolve(Child, edge.action) == resolve(Child, "note") == Child.note
        assert resolve(Sales, edge.action) == Sales.note != Child.note


class TestResolving:
    def test_a_method_from_elsewhere(self):
        class Mixin:
            @classmethod
            def small(cls, row: Any, event: EventInfo) -> type:
                return cls

        assert resolve(Sales, vars(Mixin)["small"])(1, None) is Sales
        assert resolve(Sales, print) is print

    def test_a_name_that_is_none(self):
        with pytest.raises(GraphError, match=r"^Sales has no method lost; write it, or"):
            resolve(Sales, "lost")


def takes_one(row: Any) -> None: ...


def is_generator(row: Any, event: Any) -> Any:
    yield


async def is_async(row: Any, event: Any) -> None: ...


METHOD = "write it (cls, row, event) as a classmethod, or (row, event)."
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"trigger": "let go"}, "on('let go') does not name an event; give an identifier of at most 100"
     " characters, such as 'release'."),
    ({"trigger": "x" * 101}, f"on({'x' * 101!r}) does not name an event; give an identifier of at"
     " most 100 characters, such as 'release'."),
    ({"trigger": 7}, "on(7) does not name an event; give an identifier of at most 100 characters,"
     " such as 'release'."),
    ({"to": "done"}, "on('go') needs a State of the graph, not 'done'; pass the State."),
    ({"unhandled": "drop"}, "on('go'): unhandled='drop' is none of 'retry', 'discard' and 'fail';"
     " give one of them."),
    ({"interrupts": 1}, "on('go'): interrupts=1 is neither True nor False; give one of them."),
    ({"when": 7}, "on('go'): when=7 is no condition; give a condition of the database, such as"
     " Q(paid=True), or a classmethod of the graph, or its name."),
    ({"when": "is paid"}, "on('go'): when='is paid' is not the name of a method; give its name as"
     " a str."),
    ({"when": "is_paid"}, "on('go'): when='is_paid' names no method; write a @classmethod def"
     " is_paid(cls, row, event), or correct the name."),
    ({"when": "done"}, "on('go'): when='done' names no method; write a @classmethod def"
     " done(cls, row, event), or correct the name."),
    ({"when": "plain"}, "on('go'): when='plain' is not a classmethod; write it as @classmethod def"
     " plain(cls, row, event)."),
    ({"when": "check_new"}, "on('go'): when=check_new cannot be called with a row and its event; "
     + METHOD),
    ({"when": is_async}, "on('go'): when=is_async is async, and it is asked while the row is"
     " locked; write it with def."),
    ({"when": is_generator}, "on('go'): when=is_generator is a generator function; write it without"
     " yield."),
    ({"action": 7}, "on('go'): action=7 is not callable; give a classmethod of the graph, or its"
     " name."),
    ({"action": takes_one}, "on('go'): action=takes_one cannot be called with a row and its event; "
     + METHOD),
    ({"action": "lost"}, "on('go'): action='lost' names no method; write a @classmethod def"
     " lost(cls, row, event), or correct the name."),
    ({"action": is_generator}, "on('go'): action=is_generator is a generator function; write it"
     " without yield."),
    ({"permission": 7}, "on('go'): permission=7 is no permission; give one such as"
     " 'shop.release_order', or a classmethod of the graph, or its name."),
    ({"permission": "lost"}, "on('go'): permission='lost' names no method; write a @classmethod def"
     " lost(cls, row, user), or correct the name."),
    ({"permission": takes_one}, "on('go'): permission=takes_one cannot be called with a row and its"
     " user; write it (cls, row, user) as a classmethod, or (row, user)."),
    ({"permission": is_async}, "on('go'): permission=is_async is async, and it is asked while the"
     " row is locked; write it with def."),
    ({"form": "PayForm"}, "on('go'): form='PayForm' is not the class of a form; give the class, or"
     " its dotted path, such as 'shop.forms.ReleaseForm'."),
    ({"form": 7}, "on('go'): form=7 is not the class of a form; give the class, or its dotted path,"
     " such as 'shop.forms.ReleaseForm'."),
]  # fmt: skip


class TestRefused:
    @pytest.mark.parametrize(("options", "text"), REFUSED)
    def test_a_value_that_is_wrong(self, options, text):
        def edges(new, done):
            new.transitions_to(done)
            given = {"trigger": "go", "to": done} | options
            new.on(given.pop("trigger"), **given)

        members: dict[str, Any] = {"check_new": check, "plain": lambda row, event: None}
        told = refusal(edges, new=State(), done=State(), **members)

        assert told == f"Graph.new: {text}"

    @pytest.mark.parametrize(
        "options",
        [
            {"when": Q(paid=True), "action": asked, "permission": "shop.release", "form": int},
            {"when": "asked", "action": is_async, "permission": "asked", "form": "shop.forms.Pay"},
            {"when": lambda row, event: True, "action": functools.partial(print, 1)},
            {"action": max},
        ],
    )
    def test_values_that_are_right_are_not(self, options):
        def edges(new, done):
            new.on("go", to=done, **options)

        graph = define(edges, new=State(manual=True), done=State(), asked=asked)

        assert graph.triggers == {"go"}

    def test_one_after_one_that_is_always_taken(self):
        def edges(new, done):
            new.on("go", to=done)
            new.on("go", when=PAID)

        told = refusal(edges, new=State(manual=True), done=State())

        assert told == (
            "Graph.new: on('go') is declared again after a transition without when= and"
            " permission=, which is always taken first; put that one last, or, if a parent graph"
            " declares it, redeclare the state to replace it."
        )

    def test_two_answers_to_what_is_not_taken(self):
        def edges(new, done):
            new.on("go", to=done, unhandled="fail")
            done.on("go", unhandled="retry")

        told = refusal(edges, new=State(manual=True), done=State())

        assert told == (
            "Graph: on('go') says both unhandled='fail' and unhandled='retry', which holds for the"
            " whole graph; keep one."
        )

    def test_a_state_that_is_nobody_s(self):
        told = refusal(lambda new: new.on("go", to=State()), new=State(manual=True))

        assert told == (
            "Graph.new: a transition leads to a State without a name; assign that State to a name"
            " in the body of Graph."
        )

    def test_an_automatic_state_needs_its_check_all_the_same(self):
        told = refusal(lambda new, done: new.on("go", to=done), new=State(), done=State())

        assert told == (
            "Graph.new: it is automatic but has no check; write a classmethod"
            " check_new(cls, instance), or declare it manual=True."
        )
