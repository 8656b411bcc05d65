"""What a state knows from its place: when its rows are due, and what its check may return."""

from __future__ import annotations

import pytest

from django_fsmworker.exceptions import UnknownState
from django_fsmworker.graph import State, StateGraph
from testapp.models import BasicStates, DeliveryStates, OrderStates, TroubleStates


@pytest.mark.parametrize(
    ("state", "due"),
    [
        (OrderStates.paid, 0),
        (OrderStates.new, 0),
        (BasicStates.pending_delete, 5),
        (BasicStates.done, None),
        (BasicStates.timed_out, None),
        (TroubleStates.waiting, 30),
        (DeliveryStates.pending, 0),
        (DeliveryStates.held, 600),
        (DeliveryStates.signing, None),
    ],
)
def test_first_due(state, due):
    assert state.first_due == due


class TestAnswered:
    """Which state a check means by what it returns."""

    def test_a_state_or_its_name(self):
        assert OrderStates.new.answered(OrderStates.paid) is OrderStates.paid
        assert OrderStates.new.answered("paid") is OrderStates.paid

    def test_a_parent_graph_s_state_is_the_copy_here(self):
        class Later(OrderStates):
            pass

        assert Later.new.answered(OrderStates.paid) is Later.paid

    def test_none_if_no_way_leads_there(self):
        assert OrderStates.paid.answered(OrderStates.new) is None
        assert OrderStates.paid.answered("new") is None

    @pytest.mark.parametrize("result", [BasicStates.done, State(), "nowhere", ""], ids=repr)
    def test_what_is_no_state_of_the_graph(self, result):
        with pytest.raises(UnknownState):
            OrderStates.new.answered(result)

    def test_another_graph_s_state_of_the_same_name(self):
        class Other(StateGraph):
            new = State(manual=True)
            paid = State()

            new.transitions_to(paid)

        with pytest.raises(UnknownState):
            OrderStates.new.answered(Other.paid)
