"""The rules that a graph must keep, checked when its class is created; one module a subject.

A rule about a state gets the state and returns what is wrong with it; a rule about the whole graph
gets the graph. Each answer is one sentence that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.states import State
from django_fsmworker.graph.validation import batches, edges, functions, guards, options, whole

if TYPE_CHECKING:
    from django_fsmworker.graph.stategraph import StateGraph


def validate(graph: type[StateGraph]) -> None:
    """Raise ``GraphError`` for the first rule that the graph does not keep."""
    for rule in STATE_RULES:
        for state in graph.states.values():
            if fault := rule(state):
                raise GraphError(f"{graph.__name__}.{state}: {fault}")
    for graph_rule in GRAPH_RULES:
        if fault := graph_rule(graph):
            raise GraphError(f"{graph.__name__}: {fault}")


# In this order: a rule may rely on those before it.
STATE_RULES: tuple[Callable[[State], str | None], ...] = (
    options.declared_well,
    options.function_is_a_name,
    options.attempts_in_range,
    options.backoff_is_callable,
    batches.batch_in_range,
    edges.one_timeout,
    edges.one_failure,
    edges.timeout_leads_away,
    edges.failure_leads_away,
    edges.manual_does_not_fail,
    guards.manual_has_no_guard,
    guards.guard_leads_away,
    guards.swept_runs_nothing,
    options.automatic_waits_between_checks,
    options.automatic_is_not_deleted,
    batches.batch_has_a_check,
    batches.batch_is_not_atomic,
    guards.another_way_has_a_check,
    functions.automatic_has_a_check,
    functions.terminal_has_no_check,
    functions.check_is_bound,
    functions.check_is_no_generator,
    functions.check_takes_a_row,
    functions.atomic_is_sync,
)
GRAPH_RULES: tuple[Callable[[type[StateGraph]], str | None], ...] = (
    whole.has_an_initial_state,
    whole.has_one_initial_state,
    whole.all_are_reachable,
    whole.no_endless_escapes,
    whole.automatic_has_a_way_out,
)
