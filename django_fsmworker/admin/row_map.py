"""The graph on top of a row's page: where the row is, and the way that it took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_fsmworker.admin.formatting import duration
from django_fsmworker.admin.graph_facts import edge_of
from django_fsmworker.admin.graph_page import drawn
from django_fsmworker.admin.timeline import Step
from django_fsmworker.diagnosis.flow import Move
from django_fsmworker.diagram.description import Diagram, describe
from django_fsmworker.diagram.marks import EdgeMark, Marks, StateMark

WHOLE = 12
"""Up to so many states the whole graph is shown; else where the row was, is, and may go next."""


def row_map(row: Any, steps: Iterable[Step]) -> SafeString | None:
    """The graph with the row's state and the steps that it took; None if it cannot be drawn."""
    diagram = describe(row.state_graph)
    moves = [Move(each.source, each.target, each.cause, each.trigger) for each in steps]
    been = {name for move in moves for name in (move.source, move.target)} | {row.state}
    if len(diagram.states) > WHOLE:
        diagram = _around(diagram, been, row.state)
    if not diagram.states:  # a large graph, and a state that it does not declare
        return None
    states = {name: StateMark(said=gettext("was here"), tone="passed") for name in been}
    here = gettext("here for %(duration)s") % {"duration": duration(row.state_age)}
    states[row.state] = StateMark(facts=(here,), said=here, tone="current")
    taken = {edge_of(diagram, move) for move in moves}
    edges = {edge: EdgeMark(passed=True) for edge in taken if edge is not None}
    title = gettext("The way of %(row)s") % {"row": row}
    return drawn(diagram, Marks(states, edges, dimmed=True, title=title))


def _around(diagram: Diagram, been: set[str], state: str) -> Diagram:
    """The part of a large graph that matters: the way of a row, and what may come next."""
    kept = been | {str(edge.target) for edge in diagram.edges if edge.source == state}
    return Diagram(
        diagram.name,
        tuple(each for each in diagram.states if each.name in kept),
        tuple(
            edge
            for edge in diagram.edges
            if edge.source in kept and (edge.target is None or edge.target in kept)
        ),
    )
