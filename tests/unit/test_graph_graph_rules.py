"""The rules about a graph as a whole, with their exact sentences."""

from __future__ import annotations

import pytest

from django_fsmworker.graph import State
from tests.unit.graphs import LATE, PAID, check, define, refusal, straight


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

    def test_states_that_no_row_can_reach_are_refused(self):
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

        told = refusal(
            edges,
            a=State(force_initial=True),
            b=State(max_attempts=3),
            check_a=check,
            check_b=check,
        )

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
            a=State(force_initial=True, max_attempts=3),
            b=State(max_attempts=3),
            done=State(),
            check_a=check,
            check_b=check,
        )

    def test_every_fault_is_a_value_error(self):
        with pytest.raises(ValueError, match="Graph"):
            define(new=State(retry_after=-1))


class TestCirclesOfGuards:
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
