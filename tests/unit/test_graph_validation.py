"""Every rule of a graph, with its exact sentence."""

from __future__ import annotations

import functools
from datetime import timedelta

import pytest

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import State, StateGraph, constant, exponential, linear
from django_fsmworker.graph.validation.options import MOST_ATTEMPTS

check = classmethod(lambda cls, row: None)


class Other(StateGraph):
    new = State()


def define(edges=lambda **states: None, **members):
    """Create ``Graph`` with these members; ``edges`` gets the states and declares transitions."""
    edges(**{name: value for name, value in members.items() if isinstance(value, State)})
    return type("Graph", (StateGraph,), members)


def refusal(edges=lambda **states: None, **members):
    with pytest.raises(GraphError) as caught:
        define(edges, **members)
    return str(caught.value)


def straight(new, done, **others):
    new.transitions_to(done)


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
    def test_refused(self, options, text):
        told = refusal(straight, new=State(**options), done=State(), check_new=check)

        assert told == f"Graph.new: {text}"

    def test_allowed(self):
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
    def test_seconds_of_a_timeout(self):
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

    def test_a_state_without_a_name(self):
        def edges(new):
            new.transitions_to(State())

        told = refusal(edges, new=State(), check_new=check)

        assert told == (
            "Graph.new: a transition leads to a State without a name;"
            " assign that State to a name in the body of Graph."
        )

    def test_to_another_graph(self):
        def edges(start):
            start.transitions_to(Other.new)

        told = refusal(edges, start=State(), check_start=check)

        assert told == (
            "Graph: the transition from <State Graph.start> to <State Other.new> uses a state of"
            " another graph; declare a state of its own in Graph."
        )

    def test_from_another_graph(self):
        def edges(start):
            Other.new.transitions_to(start)

        told = refusal(edges, start=State())

        assert told == (
            "Graph: the transition from <State Other.new> to <State Graph.start> uses a state of"
            " another graph; declare a state of its own in Graph."
        )

    def test_two_timeouts(self):
        def edges(new, done):
            new.timeout_to(done, 5)
            new.timeout_to(done, 5)

        told = refusal(edges, new=State(), done=State(), check_new=check)

        assert told == (
            "Graph.new: it has more than one timeout_to; keep one of them, or, if a parent graph"
            " declares one, redeclare the state to replace it."
        )

    def test_two_failures(self):
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


class AsyncCalled:
    async def __call__(self, graph, row): ...


async def slow(graph, row): ...


async def stream(graph, row):
    yield  # pragma: no cover


def drip(graph, row):
    yield  # pragma: no cover


def wrapped(check):
    return functools.wraps(check)(lambda *args, **kwargs: check(*args, **kwargs))


class TestChecks:
    def test_missing(self):
        told = refusal(straight, new=State(), done=State())

        assert told == (
            "Graph.new: it is automatic but has no check; write a classmethod"
            " check_new(cls, instance), or declare it manual=True."
        )

    def test_missing_under_its_own_name(self):
        told = refusal(straight, new=State("look_at"), done=State(), check_new=check)

        assert told == (
            "Graph.new: it is automatic but has no check; write a classmethod"
            " look_at(cls, instance), or declare it manual=True."
        )

    def test_on_a_terminal_state(self):
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
    def test_wrong_arguments(self, function):
        told = refusal(straight, new=State(), done=State(), check_new=function)

        assert told == (
            "Graph.new: check_new cannot be called with a row;"
            " write it as def check_new(cls, instance)."
        )

    @pytest.mark.parametrize(
        "function",
        [
            classmethod(slow),
            staticmethod(functools.partial(slow, None)),
            classmethod(AsyncCalled()),
            classmethod(functools.partial(slow)),
        ],
    )
    def test_async(self, function):
        graph = define(straight, new=State(), done=State(), check_new=function)

        assert (graph.new.is_async, graph.done.is_async) == (True, False)

    @pytest.mark.parametrize("function", [check, classmethod(Called())])
    def test_not_async(self, function):
        assert not define(straight, new=State(), done=State(), check_new=function).new.is_async

    def test_async_on_a_manual_state_runs_nowhere(self):
        graph = define(straight, new=State(manual=True), done=State(), check_new=classmethod(slow))

        assert not graph.new.is_async

    @pytest.mark.parametrize("function", [stream, drip])
    def test_generators(self, function):
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
    def test_allowed(self, function):
        define(straight, new=State(), done=State(), check_new=function)


class TestGraph:
    def test_no_initial_state(self):
        def edges(a, b):
            a.transitions_to(b)
            b.transitions_to(a)

        told = refusal(edges, a=State(manual=True), b=State(manual=True))

        assert told == (
            "Graph: no state is initial, because each has another that leads to it; mark the one"
            " that new rows start in with force_initial=True."
        )

    @pytest.mark.parametrize(
        ("names", "shown"), [(["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
    )
    def test_several_initial_states(self, names, shown):
        told = refusal(**{name: State() for name in names})

        assert told == (
            f"Graph: the states {shown} are all initial; keep one, and declare transitions that"
            " lead to the others."
        )

    def test_a_forced_one_beside_a_natural_one(self):
        told = refusal(straight, new=State(manual=True), done=State(force_initial=True))

        assert told == (
            "Graph: the states new and done are all initial; keep one, and declare transitions that"
            " lead to the others."
        )

    def test_unreachable(self):
        def edges(new, a, b):
            a.transitions_to(b)
            b.transitions_to(a)

        manual = {name: State(manual=True) for name in "ab"}
        told = refusal(edges, new=State(), **manual)

        assert told == (
            "Graph: no row can get from the initial state new to a and b; declare a transition"
            " that leads there, or remove the state."
        )

    def test_no_way_out(self):
        def edges(new, a, b):
            new.transitions_to(a)
            a.transitions_to(b)
            b.transitions_to(a)

        told = refusal(
            edges,
            new=State(),
            a=State(),
            b=State(),
            check_new=check,
            check_a=check,
            check_b=check,
        )

        assert told == (
            "Graph: no row can get from new to a terminal or manual state; declare a transition"
            " that leads out, or mark the state where its cycle starts with force_initial=True."
        )

    def test_no_way_out_of_a_state_that_leads_to_itself(self):
        told = refusal(lambda new: new.transitions_to(new), new=State(), check_new=check)

        assert told == (
            "Graph: no row can get from new to a terminal or manual state; declare a transition"
            " that leads out, or mark the state where its cycle starts with force_initial=True."
        )

    def test_no_way_out_of_a_cycle_behind_a_forced_state(self):
        def edges(new, a, b):
            new.transitions_to(a)
            a.transitions_to(b)
            b.transitions_to(a)

        told = refusal(
            edges,
            new=State(force_initial=True),
            a=State(),
            b=State(),
            check_new=check,
            check_a=check,
            check_b=check,
        )

        assert told.startswith("Graph: no row can get from a to a terminal or manual state;")

    def test_the_way_out_may_be_a_manual_state(self):
        def edges(a, b, held):
            a.transitions_to(b)
            b.transitions_to(a, held)
            held.transitions_to(a)

        define(
            edges,
            a=State(force_initial=True),
            b=State(),
            held=State(manual=True),
            check_a=check,
            check_b=check,
        )

    @pytest.mark.parametrize("manual", [False, True])
    def test_an_endless_circle(self, manual):
        def edges(new, a, b):
            new.transitions_to(a)
            a.timeout_to(b, 5)
            b.timeout_to(a, 5)

        told = refusal(
            edges,
            new=State(),
            a=State(manual=manual),
            b=State(manual=manual),
            check_new=check,
            check_a=check,
            check_b=check,
        )

        assert told == (
            "Graph: the states a and b lead only round in a circle of timeout_to and fails_to,"
            " which never ends; give one of them a transitions_to."
        )

    def test_an_endless_circle_with_force_initial(self):
        def edges(a, b):
            a.timeout_to(b, 5)
            b.fails_to(a)

        told = refusal(edges, a=State(force_initial=True), b=State(), check_a=check, check_b=check)

        assert told == (
            "Graph: the states a and b lead only round in a circle of timeout_to and fails_to,"
            " which never ends; give one of them a transitions_to."
        )

    def test_a_circle_that_can_end(self):
        def edges(a, b, done):
            a.fails_to(b)
            b.fails_to(a)
            b.timeout_to(done, 5)

        define(
            edges,
            a=State(force_initial=True),
            b=State(),
            done=State(),
            check_a=check,
            check_b=check,
        )

    def test_every_fault_is_a_value_error(self):
        with pytest.raises(ValueError, match="Graph"):
            define(new=State(retry_after=-1))


def test_an_async_check_cannot_be_atomic() -> None:
    with pytest.raises(GraphError) as raised:

        class Graph(StateGraph):
            new = State(atomic=True)
            done = State()

            new.transitions_to(done)

            @classmethod
            async def check_new(cls, instance):
                return cls.done

    assert str(raised.value) == (
        "Graph.new: it is atomic=True, but check_new is async, and a coroutine cannot keep a"
        " transaction open; write it without async, or leave atomic out."
    )
