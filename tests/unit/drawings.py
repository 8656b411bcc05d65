"""Graphs to be drawn. As a program it draws those that hypothesis thinks up, and a long one."""

from __future__ import annotations

import random
import threading

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_fsmworker.diagram import svg
from django_fsmworker.diagram.description import Diagram, Edge, StateBox
from django_fsmworker.diagram.marks import Marks
from django_fsmworker.diagram.ranks import parts_of, turned_edges

KINDS = ("check", "guard", "timeout", "failure", "event")
# To think up texts takes longer than to draw them; of a text only its width is in the layout.
LABELS = ("", "back", "is paid", "a label of many words", "ä€𝄞<&>")


def many_states(number: int, seed: int = 1) -> Diagram:
    """A life with every kind of edge, ways back and loops among them."""
    chosen = random.Random(seed)
    states = [
        f"state_{each}" if each % 4 else f"long name of state {each}" for each in range(number)
    ]
    edges = []
    for here in range(number):
        edges.append(Edge(states[here], None, "event", "remark"))
        if here:
            edges.append(Edge(states[chosen.randrange(here)], states[here], "check", ""))
            kind = chosen.choice(KINDS)
            edges.append(Edge(states[here], chosen.choice(states), kind, f"{kind} of {here}"))
    return _diagram(states, edges)


def _diagram(states: list[str], edges: list[Edge]) -> Diagram:
    boxes = [StateBox(each, each, "manual", each == states[0], None, ()) for each in states]
    return Diagram("Many", tuple(boxes), tuple(edges))


@st.composite
def diagrams(draw: st.DrawFn) -> Diagram:
    """Any graph: with cycles, loops, edges that are twice there, and states without edges."""
    number = draw(st.integers(1, 14))
    states = [f"s{each}" for each in range(number)]
    end = st.sampled_from(states)
    kind, label = st.sampled_from(KINDS), st.sampled_from(LABELS)
    ends = draw(st.lists(st.tuples(end, st.none() | end, kind, label), max_size=40))
    return _diagram(states, [Edge(*each) for each in ends])


# A busy machine is no reason to fail.
@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(diagrams())
def draw_any(diagram: Diagram) -> None:
    """Draw it; each edge leads from its upper end to its lower one, through rows that follow."""
    svg.render_part(diagram, Marks())
    number = {state.name: index for index, state in enumerate(diagram.states)}
    ends = [
        (number[edge.source], number[edge.target])
        for edge in diagram.edges
        if edge.target not in (None, edge.source)
    ]
    turned = turned_edges(len(number), ends)
    for part in parts_of(len(number), ends):
        row_of = {item: index for index, row in enumerate(part.rows) for item in row}
        assert len(row_of) == sum(map(len, part.rows))
        for k, way in part.ways.items():
            upper, lower = reversed(ends[k]) if k in turned else ends[k]
            assert (way[0], way[-1]) == (upper, lower)
            rows = [row_of[item] for item in way]
            assert rows == list(range(rows[0], rows[0] + len(way)))


def draw_long() -> None:
    """A graph that is far larger than any life, on a thread with little room for calls."""
    names = [f"s{each}" for each in range(600)]
    edges = [Edge(one, two, "check", "") for one, two in zip(names, names[1:], strict=False)]
    edges += [Edge(one, names[0], "event", "back") for one in names[1::40]]
    threading.stack_size(512 * 1024)
    thread = threading.Thread(target=svg.render, args=(_diagram(names, edges),))
    thread.start()
    thread.join()


if __name__ == "__main__":
    draw_any()
    draw_long()
    print("drawn")
