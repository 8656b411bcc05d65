"""How long rows live at most: declared once, for states that do not come after its target."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker.diagram.description import describe
from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import Lifetime, State, StateGraph
from django_fsmworker.graph.fingerprint import fingerprint

DAY = 86_400.0


class Offers(StateGraph):
    sent = State(manual=True, force_initial=True)
    discussed = State(manual=True)
    accepted = State()
    lapsing = State(manual=True)
    lapsed = State()

    sent.transitions_to(discussed, accepted)
    discussed.transitions_to(sent)
    lapsing.transitions_to(lapsed)
    StateGraph.lifetime(lapsing, timedelta(days=3))


class TestStates:
    def test_it_counts_where_a_row_has_not_come_to_its_end(self) -> None:
        counts = [state.name for state in Offers.states.values() if state.lifetime_state]

        assert counts == ["sent", "discussed"]
        assert Offers.sent.lifetime_state is Offers.lapsing

    def test_the_graph_tells_of_it(self) -> None:
        assert Offers.declared_lifetime == Lifetime(Offers.lapsing, 3 * DAY)

    def test_its_target_is_reached_by_it(self) -> None:
        assert Offers.lapsing in Offers.discussed.children
        assert Offers.lapsing.parents == {Offers.sent, Offers.discussed}
        assert Offers.initial_state is Offers.sent

    def test_no_check_may_ask_for_it(self) -> None:
        assert Offers.lapsing not in Offers.sent.unguarded

    def test_a_graph_without_one(self) -> None:
        class Plain(StateGraph):
            new = State(manual=True)
            done = State()
            new.transitions_to(done)

        assert Plain.declared_lifetime is None
        assert Plain.new.lifetime_state is None

    def test_a_check_that_never_ends_by_itself_is_accepted(self) -> None:
        class Polling(StateGraph):
            asking = State(force_initial=True)
            again = State()
            gone = State()
            asking.transitions_to(again)
            again.transitions_to(asking)
            StateGraph.lifetime(gone, 60)

            @classmethod
            def check_asking(cls, row: Any) -> None: ...

            @classmethod
            def check_again(cls, row: Any) -> None: ...

        assert Polling.asking.lifetime_state is Polling.gone


class TestSubclasses:
    def test_inherit_it(self) -> None:
        class Child(Offers):
            paused = State(manual=True)
            Offers.sent.transitions_to(paused)
            paused.transitions_to(Offers.sent)

        assert Child.declared_lifetime == Lifetime(Child.lapsing, 3 * DAY)
        assert Child.paused.lifetime_state is Child.lapsing

    def test_may_have_their_own(self) -> None:
        class Child(Offers):
            archived = State()
            StateGraph.lifetime(archived, DAY)
            lapsing = State(manual=True)
            Offers.sent.transitions_to(lapsing, archived)

        assert Child.declared_lifetime == Lifetime(Child.archived, DAY)
        assert Child.sent.lifetime_state is Child.archived
        assert Offers.sent.lifetime_state is Offers.lapsing


class TestRefused:
    def test_a_name(self) -> None:
        with pytest.raises(GraphError) as refused:
            StateGraph.lifetime("gone", 60)  # type: ignore[arg-type]

        assert str(refused.value) == (
            "StateGraph.lifetime() needs a State of the graph, not 'gone'; pass the State."
        )

    def test_no_time(self) -> None:
        with pytest.raises(GraphError) as refused:

            class Graph(StateGraph):
                new = State(manual=True)
                gone = State()
                new.transitions_to(gone)
                StateGraph.lifetime(gone, 0)

        assert str(refused.value) == (
            "Graph.gone: lifetime after=0 is not above zero; give more than 0 seconds."
        )

    def test_two(self) -> None:
        with pytest.raises(GraphError) as refused:

            class Graph(StateGraph):
                new = State(manual=True)
                gone = State()
                lost = State()
                new.transitions_to(gone)
                StateGraph.lifetime(gone, 1)
                StateGraph.lifetime(lost, 2)

        assert str(refused.value) == (
            "Graph: it has more than one lifetime, to gone and to lost; keep one of them."
        )

    def test_a_way_back(self) -> None:
        with pytest.raises(GraphError) as refused:

            class Graph(StateGraph):
                new = State(manual=True, force_initial=True)
                gone = State(manual=True)
                new.transitions_to(gone)
                gone.transitions_to(new)
                StateGraph.lifetime(gone, 1)

        assert str(refused.value) == (
            "Graph: its lifetime to gone would end in no state, because each is terminal or can be"
            " reached from gone; lead to a state from which no way leads back."
        )

    def test_a_state_of_a_finished_graph(self) -> None:
        with pytest.raises(GraphError) as refused:

            class Child(Offers):
                StateGraph.lifetime(Offers.lapsed, 1)

        assert str(refused.value) == (
            "Offers.lapsed: lifetime() comes too late, because the state belongs to a finished"
            " graph; redeclare it in the body of a subclass and declare the lifetime there."
        )


def test_a_diagram_says_so_at_its_target() -> None:
    notes = {box.name: box.notes for box in describe(Offers).states}

    assert notes["lapsing"] == ("end of every life after 3 d",)
    assert notes["sent"] == ()


def test_the_fingerprint_tells_it() -> None:
    def graph(seconds: float) -> type[StateGraph]:
        class Graph(StateGraph):
            new = State(manual=True)
            gone = State()
            new.transitions_to(gone)
            StateGraph.lifetime(gone, seconds)

        return Graph

    assert fingerprint(graph(1)) == fingerprint(graph(1))
    assert fingerprint(graph(1)) != fingerprint(graph(2))
