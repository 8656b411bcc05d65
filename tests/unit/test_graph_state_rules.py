"""The rules about one state, with their exact sentences."""

from __future__ import annotations

import functools
from datetime import timedelta

import pytest
from django.db.models import F, Q, Value

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import State, StateGraph, constant, exponential, linear
from django_fsmworker.graph.validation.state_rules import MOST_ATTEMPTS
from tests.unit.graphs import LATE, PAID, check, define, guarded, refusal, straight


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"retry_after": -1}, "retry_after=-1 is negative; give 0 seconds or more."),
            (
                {"start_after": timedelta(days=-1)},
                "start_after=datetime.timedelta(days=-1) is negative; give 0 seconds or more.",
            ),
            ({"delete_after": -0.5}, "delete_after=-0.5 is negative; give 0 seconds or more."),
            (
                {"retry_after": "5"},
                "retry_after='5' is not a duration; give a number of seconds or a timedelta.",
            ),
            (
                {"start_after": float("nan")},
                "start_after=nan is not a duration; give a number of seconds or a timedelta.",
            ),
            (
                {"retry_after": float("inf")},
                "retry_after=inf is longer than 100 years; give fewer seconds.",
            ),
            ({"deadline": 0}, "deadline=0 is not above zero; give more than 0 seconds."),
            ({"deadline": -3}, "deadline=-3 is not above zero; give more than 0 seconds."),
            (
                {"retry_after": 0},
                "retry_after=0 would run its check without a pause; give more than 0 seconds.",
            ),
            (
                {"delete_after": 5},
                "delete_after is for terminal and manual states, and the runner progresses this"
                " one; put delete_after on a terminal state and lead there with timeout_to.",
            ),
            (
                {"externally_progressed": True, "manual": False},
                "externally_progressed=True and manual=False contradict each other; give only one.",
            ),
            *[
                (
                    {"max_attempts": attempts},
                    f"max_attempts={attempts!r} is not a whole number from 1 to 32767;"
                    " give one, or None to retry for ever.",
                )
                for attempts in (0, -1, 2.0, "3", True, MOST_ATTEMPTS + 1)
            ],
            (
                {"backoff": 5},
                "backoff=5 is not callable; give a callable from failures to seconds,"
                " such as exponential(base=5).",
            ),
            *[
                (
                    {"backoff": factory},
                    f"backoff={factory.__name__} is not called yet; give a callable from failures"
                    " to seconds, such as exponential(base=5).",
                )
                for factory in (exponential, linear, constant)
            ],
            *[
                (
                    {"transition_function": function},
                    f"transition_function={function!r} is not the name of a method;"
                    " give its name as a str.",
                )
                for function in (len, "check new", "", 5)
            ],
        ],
    )
    def test_options_that_make_no_sense_are_refused(self, options, text):
        told = refusal(straight, new=State(**options), done=State(), check_new=check)

        assert told == f"Graph.new: {text}"

    def test_options_at_their_limits_are_allowed(self):
        define(
            straight,
            new=State(max_attempts=MOST_ATTEMPTS, backoff=lambda failures: 1, deadline=0.1),
            done=State(retry_after=0, max_attempts=1),
            check_new=check,
        )

    def test_deletion_from_a_manual_state(self):
        graph = define(straight, new=State(manual=True, delete_after=5), done=State())

        assert graph.deletion_states == {"new"}


class TestEdges:
    def test_a_timeout_of_zero_seconds_is_refused(self):
        def edges(new, done):
            new.timeout_to(done, 0)

        told = refusal(edges, new=State(), done=State(), check_new=check)

        assert told == (
            "Graph.new: timeout_to seconds=0 is not above zero; give more than 0 seconds."
        )

    @pytest.mark.parametrize("verb", ["transitions_to", "fails_to"])
    def test_a_name_instead_of_a_state(self, verb):
        def edges(new, done):
            getattr(new, verb)("done")

        told = refusal(edges, new=State(), done=State(), check_new=check)

        assert told == (
            f"Graph.new: {verb} needs a State of the graph, not 'done'; pass the State."
        )

    def test_two_timeouts_of_a_state_are_refused(self):
        def edges(new, done):
            new.timeout_to(done, 5)
            new.timeout_to(done, 5)

        told = refusal(edges, new=State(), done=State(), check_new=check)

        assert told == (
            "Graph.new: it has more than one timeout_to; keep one of them, or, if a parent graph"
            " declares one, redeclare the state to replace it."
        )

    def test_two_failure_states_of_a_state_are_refused(self):
        def edges(new, done, failed):
            new.fails_to(done)
            new.fails_to(failed)

        told = refusal(edges, new=State(), done=State(), failed=State(), check_new=check)

        assert told == (
            "Graph.new: it has more than one fails_to; keep one of them, or, if a parent graph"
            " declares one, redeclare the state to replace it."
        )

    def test_timeout_to_itself(self):
        def edges(new, done):
            new.transitions_to(done)
            new.timeout_to(new, 5)

        told = refusal(edges, new=State(), done=State(), check_new=check)

        assert told == (
            "Graph.new: timeout_to leads back to the state itself; lead to another state."
        )

    def test_failure_to_itself(self):
        def edges(new, done):
            new.transitions_to(done)
            new.fails_to(new)

        told = refusal(edges, new=State(), done=State(), check_new=check)

        assert told == "Graph.new: fails_to leads back to the state itself; lead to another state."

    def test_failure_of_a_manual_state(self):
        def edges(new, done):
            new.fails_to(done)

        told = refusal(edges, new=State(manual=True), done=State())

        assert told == (
            "Graph.new: a manual state runs no check and so cannot fail;"
            " remove fails_to or manual=True."
        )


class Called:
    def __call__(self, graph, row): ...


async def stream(graph, row):
    yield  # pragma: no cover


def drip(graph, row):
    yield  # pragma: no cover


def wrapped(check):
    return functools.wraps(check)(lambda *args, **kwargs: check(*args, **kwargs))


class TestChecks:
    def test_an_automatic_state_without_a_check_is_refused(self):
        told = refusal(straight, new=State(), done=State())

        assert told == (
            "Graph.new: it is automatic but has no check; write a classmethod"
            " check_new(cls, instance), or declare it manual=True."
        )

    @pytest.mark.parametrize("way", [straight, guarded])
    def test_as_other_systems_name_it(self, way):
        told = refusal(way, new=State(), done=State(), handle_new=check)

        assert told == (
            "Graph.new: handle_new is called by nobody: its check is check_new; rename it, or"
            " declare State(transition_function='handle_new')."
        )

    def test_another_name_that_is_declared(self):
        define(straight, new=State("handle_new"), done=State(), handle_new=check)

    def test_missing_under_its_own_name(self):
        told = refusal(straight, new=State("look_at"), done=State(), check_new=check)

        assert told == (
            "Graph.new: it is automatic but has no check; write a classmethod"
            " look_at(cls, instance), or declare it manual=True."
        )

    def test_a_check_of_a_terminal_state_is_refused(self):
        told = refusal(straight, new=State(), done=State(), check_new=check, check_done=check)

        assert told == (
            "Graph.done: it is terminal, so its check check_done would never run;"
            " remove the check, or declare where the state leads with transitions_to."
        )

    def test_on_a_manual_state_is_allowed(self):
        graph = define(straight, new=State(manual=True), done=State(), check_new=check)

        assert graph.new.handler("a row") is None

    @pytest.mark.parametrize(
        "function", [lambda self, row: None, lambda row: None, property(lambda self: None)]
    )
    def test_not_a_classmethod(self, function):
        told = refusal(straight, new=State(), done=State(), check_new=function)

        assert told == (
            "Graph.new: check_new is not a classmethod;"
            " write it as @classmethod def check_new(cls, instance)."
        )

    @pytest.mark.parametrize(
        "function",
        [
            classmethod(lambda cls: None),
            classmethod(lambda cls, row, more: None),
            classmethod(lambda cls, *, row: None),
            classmethod(wrapped(lambda cls: None)),
            staticmethod(lambda cls, row: None),
            staticmethod(lambda: None),
            staticmethod(5),  # type: ignore[arg-type]
        ],
    )
    def test_a_check_that_takes_no_row_is_refused(self, function):
        told = refusal(straight, new=State(), done=State(), check_new=function)

        assert told == (
            "Graph.new: check_new cannot be called with a row;"
            " write it as def check_new(cls, instance)."
        )

    @pytest.mark.parametrize("function", [stream, drip])
    def test_generator_functions_are_refused(self, function):
        told = refusal(straight, new=State(), done=State(), check_new=classmethod(function))

        assert told == (
            "Graph.new: check_new is a generator function, which cannot return a state;"
            " write it without yield, as def or async def."
        )

    @pytest.mark.parametrize(
        "function",
        [
            classmethod(lambda cls, row, more=1: None),
            classmethod(lambda *args, **kwargs: None),
            classmethod(wrapped(lambda cls, row: None)),
            classmethod(Called()),
            staticmethod(lambda row: None),
            staticmethod(max),
        ],
    )
    def test_checks_of_these_shapes_are_allowed(self, function):
        define(straight, new=State(), done=State(), check_new=function)

    def test_an_async_check_cannot_be_atomic(self):
        with pytest.raises(GraphError) as caught:

            class Graph(StateGraph):
                new = State(atomic=True)
                done = State()

                new.transitions_to(done)

                @classmethod
                async def check_new(cls, instance):
                    return cls.done

        assert str(caught.value) == (
            "Graph.new: it is atomic=True, but check_new is async, and a coroutine cannot keep a"
            " transaction open; write it without async, or leave atomic out."
        )


class TestGuards:
    @pytest.mark.parametrize("function", [lambda row: True, Q, len])
    def test_a_function_as_condition_is_refused(self, function):
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

    def test_a_guard_of_a_manual_state_is_refused(self):
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
    def test_options_of_a_check_without_one_are_refused(self, options, shown):
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

    def test_delete_after_on_a_swept_state_is_refused(self):
        told = refusal(guarded, new=State(delete_after=5), done=State())

        assert told.startswith("Graph.new: delete_after is for terminal and manual states,")


def define_batch(new, **members):
    done = State()
    new.transitions_to(done)
    return type("Graph", (StateGraph,), {"new": new, "done": done, **members})


def refused_batch(new, **members):
    with pytest.raises(GraphError) as caught:
        define_batch(new, **members)
    return str(caught.value)


def guarded_batch(new, *others):
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


class TestBatch:
    @pytest.mark.parametrize("batch", [1, 2, 10_000])
    def test_numbers_that_are_allowed(self, batch):
        graph = define_batch(State(batch=batch), check_new=check)

        assert graph.new.batch == batch
        assert graph.done.batch is None

    def test_it_may_be_async(self):
        async def look(cls, rows): ...

        graph = define_batch(State(batch=5), check_new=classmethod(look))

        assert (graph.new.is_async, graph.new.batch) == (True, 5)

    @pytest.mark.parametrize("batch", [0, -1, 10_001, 2.0, "5", True])
    def test_numbers_that_are_not(self, batch):
        told = refused_batch(State(batch=batch), check_new=check)

        assert told == (
            f"Graph.new: batch={batch!r} is not a whole number from 1 to 10000;"
            " give one, or leave batch out for a check that gets one row."
        )

    def test_a_batch_with_atomic_is_refused(self):
        told = refused_batch(State(batch=5, atomic=True), check_new=check)

        assert told == (
            "Graph.new: batch and atomic=True exclude each other, because in one transaction the"
            " failure of one row would undo all the others; leave one of them out."
        )

    def test_a_batch_in_a_manual_state_is_refused(self):
        told = refused_batch(State(batch=5, manual=True))

        assert told == (
            "Graph.new: no check runs in a terminal or manual state, so nothing would get a batch;"
            " remove batch."
        )

    def test_a_batch_in_a_terminal_state_is_refused(self):
        new, done = State(), State(batch=5)
        new.transitions_to(done)

        with pytest.raises(
            GraphError, match=r"^Graph\.done: no check runs in a terminal or manual"
        ):
            type("Graph", (StateGraph,), {"new": new, "done": done, "check_new": check})

    def test_a_batch_of_a_state_with_guards_only_is_refused(self):
        assert guarded_batch(State(batch=5)) == (
            "Graph.new: batch is for a check, and it has only guards; remove batch, or write a"
            " check."
        )

    def test_with_guards_and_a_check_that_is_missing(self):
        assert guarded_batch(State(batch=5), State()) == (
            "Graph.new: nobody would take its transition to other0, which has no when=, because it"
            " has no check; write a classmethod check_new(cls, rows), or give that transition a"
            " when=."
        )

    def test_a_batch_of_a_state_without_a_check_is_refused(self):
        assert refused_batch(State(batch=5)) == (
            "Graph.new: it is automatic but has no check; write a classmethod"
            " check_new(cls, rows), or declare it manual=True."
        )

    def test_with_a_check_that_is_no_classmethod(self):
        assert refused_batch(State(batch=5), check_new=lambda cls, rows: None) == (
            "Graph.new: check_new is not a classmethod;"
            " write it as @classmethod def check_new(cls, rows)."
        )

    def test_with_a_check_that_takes_no_list(self):
        assert refused_batch(State(batch=5), check_new=classmethod(lambda cls: None)) == (
            "Graph.new: check_new cannot be called with a list of rows;"
            " write it as def check_new(cls, rows)."
        )

    def test_a_subclass_gets_it_and_may_redeclare_it(self):
        parent = define_batch(State(batch=5), check_new=check)

        class Kept(parent):  # type: ignore[valid-type, misc]
            pass

        class Changed(parent):  # type: ignore[valid-type, misc]
            new = State(batch=50)

        assert (Kept.new.batch, Changed.new.batch) == (5, 50)
