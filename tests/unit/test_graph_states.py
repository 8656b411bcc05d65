"""States: their options and edges, what follows from the graph, and a state as a value."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import BooleanField, Exists, F, OuterRef, Q
from django.db.models.expressions import Func
from django.db.models.functions import Abs
from django.db.models.lookups import GreaterThan

from django_fsmworker.exceptions import GraphError, UnknownState
from django_fsmworker.graph import State, StateGraph, Transition, declaring, exponential
from testapp.models import OrderStates as ShopStates
from tests.app.models import BasicStates, DeliveryStates, Endpoint, TroubleStates
from tests.unit.graphs import LATE, PAID, check, define, derive, guarded

DAY = 86_400.0


class Lazy:
    """Stands for a lazily translated label."""

    def __str__(self):
        return "translated"


LAZY = Lazy()
BACKOFF = exponential(base=2)


class OrderStates(StateGraph):
    new = State(retry_after=30)
    paid = State(max_attempts=5, backoff=BACKOFF, deadline=timedelta(seconds=9), start_after=2)
    held = State("look_at", manual=True, label=LAZY, force_initial=False)
    shipped = State(delete_after=timedelta(days=30))
    failed = State(label="Failed for good")

    new.transitions_to(paid, held)
    new.timeout_to(failed, seconds=timedelta(hours=1))
    paid.transitions_to(shipped)
    paid.fails_to(failed)
    held.transitions_to(paid)

    @classmethod
    def check_new(cls, order):
        return cls.paid

    @classmethod
    def check_paid(cls, order):
        return cls.shipped


new, paid, held = OrderStates.new, OrderStates.paid, OrderStates.held
shipped, failed = OrderStates.shipped, OrderStates.failed


class OtherStates(StateGraph):
    new = State()


class TestOptions:
    def test_without_options_the_defaults_hold(self):
        assert (new.start_after, new.retry_after, new.delete_after) == (0, 30, None)
        assert (new.max_attempts, new.backoff, new.deadline) == (None, None, None)
        assert paid.retry_after == 60
        assert new.force_initial is False

    def test_durations_are_float_seconds(self):
        assert (paid.start_after, paid.deadline, shipped.delete_after) == (2.0, 9.0, 30 * DAY)
        assert {type(paid.start_after), type(new.retry_after), type(paid.deadline)} == {float}

    def test_attempts_and_backoff(self):
        assert paid.max_attempts == 5
        assert paid.backoff is BACKOFF

    def test_a_label_is_the_name_unless_given(self):
        assert (new.label, failed.label) == ("new", "Failed for good")
        assert held.label is LAZY
        assert dict(OrderStates.choices)["held"] is LAZY
        assert str(held.label) == "translated"

    def test_a_check_is_named_for_its_state_unless_given(self):
        assert (new.transition_function, held.transition_function) == ("check_new", "look_at")

    @pytest.mark.parametrize(
        ("option", "said"),
        [
            ("try_interval", "the time between two checks is retry_after."),
            ("handler_name", "the check is named by transition_function."),
            ("max_attempt", "did you mean max_attempts?"),
        ],
    )
    def test_of_other_systems_are_refused_with_the_word_that_is_meant(self, option, said):
        untyped: Any = State

        with pytest.raises(TypeError) as caught:
            untyped(**{option: 60})

        assert str(caught.value) == f"State() has no option {option!r}; {said}"

    def test_one_that_is_like_no_other_gets_them_all(self):
        untyped: Any = State

        with pytest.raises(TypeError, match=r"^State\(\) has no option 'x'; it has transition_f"):
            untyped(x=1)

    def test_no_other_word_is_an_option(self):
        assert not inspect.signature(State).parameters.keys() & declaring.MEANT.keys()

    def test_manual_is_an_alias(self):
        class Graph(StateGraph):
            a = State(externally_progressed=True)
            b = State(None, True)
            c = State(externally_progressed=True, manual=True)
            end = State()
            a.transitions_to(b)
            b.transitions_to(c)
            c.transitions_to(end)

        assert [state.manual for state in Graph.states.values()] == [True] * 4
        assert [state.externally_progressed for state in Graph.states.values()] == [True] * 4
        assert Graph.automatic_states == set()


class TestNode:
    def test_name_and_graph(self):
        assert new.name == "new"
        assert new.graph is OrderStates

    def test_children_and_parents(self):
        assert new.children == {paid, held, failed}
        assert failed.parents == {new, paid}
        assert new.parents == shipped.children == set()

    def test_transitions_in_order_of_declaration(self):
        assert new.transitions == [
            Transition(new, paid, "check"),
            Transition(new, held, "check"),
            Transition(new, failed, "timeout", 3600.0),
        ]
        assert paid.transitions == [
            Transition(paid, shipped, "check"),
            Transition(paid, failed, "failure"),
        ]

    def test_transitions_are_a_copy(self):
        new.transitions.clear()

        assert len(new.transitions) == 3

    def test_timeout_and_failure(self):
        assert (new.timeout_state, new.timeout_after) == (failed, 3600.0)
        assert (paid.timeout_state, paid.timeout_after) == (None, None)
        assert (paid.failure_state, new.failure_state) == (failed, None)

    def test_one_state_is_initial(self):
        assert [state for state in OrderStates.states.values() if state.initial] == [new]

    def test_a_state_is_automatic_manual_or_terminal(self):
        groups = {s.name: (s.automatic, s.manual, s.terminal) for s in OrderStates.states.values()}

        assert groups == {
            "new": (True, False, False),
            "paid": (True, False, False),
            "held": (False, True, False),
            "shipped": (False, True, True),
            "failed": (False, True, True),
        }

    def test_a_state_may_lead_to_itself(self):
        class Graph(StateGraph):
            new = State()
            done = State()
            new.transitions_to(new, done)
            check_new = OrderStates.__dict__["check_new"]

        assert Graph.new.initial
        assert Graph.new in Graph.new.parents

    def test_duplicate_transitions_are_one(self):
        class Graph(StateGraph):
            new = State(manual=True)
            done = State()
            new.transitions_to(done, done)
            new.transitions_to(done)
            new.timeout_to(done, 5)

        assert [edge.kind for edge in Graph.new.transitions] == ["check", "timeout"]


class TestHandler:
    def test_is_bound_to_the_graph(self):
        assert new.handler("a row") is paid
        assert paid.handler("a row") is shipped

    def test_a_missing_check_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="look_at"):
            held.handler  # noqa: B018


class TestRetryDelay:
    def test_without_a_backoff_it_is_retry_after(self):
        assert new.retry_delay(3) == 30.0

    def test_with_a_backoff_it_grows(self):
        assert 1.8 <= paid.retry_delay(1) <= 2.2
        assert 7.2 <= paid.retry_delay(3) <= 8.8

    def test_backoff_may_give_a_timedelta(self):
        state = State(backoff=lambda failures: timedelta(minutes=failures))

        assert state.retry_delay(2) == 120.0

    @pytest.mark.parametrize("result", [-1, None, float("nan")])
    def test_bad_result_is_logged(self, result, caplog):
        state = State(retry_after=7, backoff=lambda failures: result)

        with caplog.at_level(logging.ERROR):
            assert state.retry_delay(2) == 7.0

        assert caplog.messages == [
            "The backoff of <State without a graph> failed for failures=2;"
            " retry_after counts instead."
        ]
        assert caplog.records[0].action == "backoff_failed"

    def test_raising_backoff_is_logged(self, caplog):
        state = State(retry_after=7, backoff=lambda failures: 1 / 0)

        assert state.retry_delay(2) == 7.0
        assert caplog.records[0].exc_info[0] is ZeroDivisionError


class TestValue:
    def test_compares_as_its_name(self):
        assert new == "new"
        assert "new" == new  # noqa: SIM300 - the other way round is another method
        assert new != "paid"
        assert (new != "new") is False
        assert new != 5
        assert not isinstance(new, str)

    def test_equal_only_to_itself(self):
        assert new == new
        assert new != OtherStates.new
        assert new != paid

    def test_hashes_as_its_name(self):
        assert hash(new) == hash("new")
        assert new in {"new"}
        assert "new" in {new}
        assert {"new"} & {new}
        assert {new} & {"new", "paid", "held"}
        assert "shipped" in OrderStates.terminal_states
        names: dict[Any, State] = dict(OrderStates.states)
        states: dict[Any, int] = {new: 1}
        assert names[new] is new
        assert states["new"] == 1
        assert len({new, OtherStates.new}) == 2

    def test_its_text_is_its_name(self):
        assert str(new) == "new"
        assert f"{new:>5}|{new}" == "  new|new"
        assert repr(new) == "<State OrderStates.new>"

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_a_pickled_state_comes_back_as_itself(self, protocol):
        assert pickle.loads(pickle.dumps([new, new], protocol)) == [new, new]
        assert pickle.loads(pickle.dumps(new, protocol)) is new

    def test_a_copy_is_the_state_itself(self):
        assert copy.copy(new) is new
        assert copy.deepcopy({"state": new})["state"] is new


class TestWithoutGraph:
    def test_it_has_no_node(self):
        state = State()

        assert (state.name, str(state), state.label) == ("", "", "")
        assert not state.parents | state.children
        assert state.transitions == []
        assert (state.timeout_state, state.timeout_after, state.failure_state) == (None, None, None)
        assert state.terminal is False
        assert repr(state) == "<State without a graph>"
        assert state != ""
        assert copy.deepcopy(state) is state

    def test_its_graph_is_asked_for_in_vain(self):
        with pytest.raises(GraphError) as caught:
            State().graph  # noqa: B018

        assert str(caught.value) == (
            "This State belongs to no graph; assign it in a StateGraph's body."
        )

    def test_it_cannot_be_hashed(self):
        with pytest.raises(TypeError) as caught:
            {State()}

        assert str(caught.value) == (
            "A State can be hashed only after its graph's class is complete."
        )


class TestFinishedGraph:
    @pytest.mark.parametrize(
        ("declare", "text"),
        [
            (
                lambda: new.transitions_to(shipped),
                "OrderStates.new: transitions_to <State OrderStates.shipped> comes too late,"
                " because both states belong to finished graphs; redeclare one of them in the body"
                " of a subclass and declare the transition there.",
            ),
            (
                lambda: held.fails_to(OtherStates.new),
                "OrderStates.held: fails_to <State OtherStates.new> comes too late,"
                " because both states belong to finished graphs; redeclare one of them in the body"
                " of a subclass and declare the transition there.",
            ),
            (
                lambda: held.transitions_to("new"),  # type: ignore[arg-type]
                "OrderStates.held: transitions_to needs a State of the graph, not 'new';"
                " pass the State.",
            ),
            (
                lambda: held.timeout_to(State(), -1),
                "OrderStates.held: timeout_to seconds=-1 is not above zero;"
                " give more than 0 seconds.",
            ),
        ],
    )
    def test_refuses_edges(self, declare, text):
        with pytest.raises(GraphError) as caught:
            declare()

        assert str(caught.value) == text
        assert len(new.transitions) == 3


@pytest.mark.parametrize(
    ("state", "due"),
    [
        (ShopStates.paid, 0),
        (ShopStates.new, 0),
        (BasicStates.pending_delete, 5),
        (BasicStates.done, None),
        (BasicStates.timed_out, None),
        (TroubleStates.waiting, 30),
        (DeliveryStates.pending, 0),
        (DeliveryStates.held, 600),
        (DeliveryStates.signing, None),
    ],
)
def test_a_state_is_first_due_when_its_options_say(state, due):
    assert state.first_due == due


class TestAnswered:
    """Which state a check means by what it returns."""

    def test_a_state_or_its_name(self):
        assert ShopStates.new.answered(ShopStates.paid) is ShopStates.paid
        assert ShopStates.new.answered("paid") is ShopStates.paid

    def test_a_parent_graph_s_state_is_the_copy_here(self):
        class Later(ShopStates):
            pass

        assert Later.new.answered(ShopStates.paid) is Later.paid

    def test_none_if_no_way_leads_there(self):
        assert ShopStates.paid.answered(ShopStates.new) is None
        assert ShopStates.paid.answered("new") is None

    @pytest.mark.parametrize("result", [BasicStates.done, State(), "nowhere", ""], ids=repr)
    def test_what_is_no_state_of_the_graph(self, result):
        with pytest.raises(UnknownState):
            ShopStates.new.answered(result)

    def test_another_graph_s_state_of_the_same_name(self):
        class Other(StateGraph):
            new = State(manual=True)
            paid = State()

            new.transitions_to(paid)

        with pytest.raises(UnknownState):
            ShopStates.new.answered(Other.paid)


class Condition:
    """Anything may be a condition that says so: a graph knows nothing of Django."""

    conditional = True


class TestGuards:
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
    def test_an_edge_keeps_its_condition(self, when):
        def edges(new, done):
            new.transitions_to(done, when=when)

        assert define(edges, new=State(), done=State()).new.guards[0].when is when


class TestSwept:
    def test_a_state_with_guards_only_is_swept(self):
        graph = define(guarded, new=State(), done=State())

        assert (graph.new.swept, graph.new.automatic, graph.new.checked) == (True, True, False)
        assert (graph.new.manual, graph.new.terminal, graph.new.is_async) == (False, False, False)
        assert graph.swept_states == graph.automatic_states == {"new"}

    def test_with_a_check_it_is_not_swept(self):
        graph = define(guarded, new=State(), done=State(), check_new=check)

        assert (graph.new.swept, graph.new.automatic, graph.new.checked) == (False, True, True)
        assert graph.swept_states == set()

    def test_a_state_without_guards_is_checked(self):
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
