"""The fingerprint of a graph: what tells whether two processes run the same declaration."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from django_fsmworker.graph.stategraph import StateGraph
from django_fsmworker.graph.states import State

# What a declaration says by itself. The code of checks is not part of it.
DECLARED = (
    "initial",
    "terminal",
    "manual",
    "transition_function",
    "start_after",
    "retry_after",
    "delete_after",
    "max_attempts",
    "deadline",
    "atomic",
    "batch",
)


def fingerprint(graph: type[StateGraph]) -> str:
    """Twelve hexadecimal digits that are the same for equal declarations, in any order of states.

    The code of checks and actions is left out, and so is what a backoff computes.
    """
    lines = sorted(line for state in graph.states.values() for line in _lines(state))
    if (lifetime := graph.declared_lifetime) is not None:
        lines.append(f"lifetime {lifetime.target.name} {lifetime.after}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _lines(state: State) -> Iterator[str]:
    yield f"{state.name}: {[getattr(state, name) for name in DECLARED]}"
    for edge in state.transitions:
        yield f"{state.name} {edge.kind} {edge.target.name} {edge.after} {_condition(edge)}"


def _condition(edge: Any) -> str:
    # The text of a condition may hold the address of an object, which differs in each process.
    return "" if edge.when is None else re.sub(r" at 0x[0-9a-f]+", "", str(edge.when))
