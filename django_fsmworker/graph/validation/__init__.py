"""Validating a graph when its class is created.

A rule that is broken answers with one sentence, which says what to do.
"""

from __future__ import annotations

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.states import Graph
from django_fsmworker.graph.validation.graph_rules import GRAPH_RULES
from django_fsmworker.graph.validation.state_rules import STATE_RULES


def validate(graph: type[Graph]) -> None:
    """Raise ``GraphError`` for the first rule that the graph does not keep."""
    for rule in STATE_RULES:
        for state in graph.states.values():
            if fault := rule(state):
                raise GraphError(f"{graph.__name__}.{state}: {fault}")
    for graph_rule in GRAPH_RULES:
        if fault := graph_rule(graph):
            raise GraphError(f"{graph.__name__}: {fault}")
