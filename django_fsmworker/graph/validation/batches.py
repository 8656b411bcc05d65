"""Rules about the states whose checks get many rows at a time."""

from __future__ import annotations

from django_fsmworker.graph.states import State

MOST_ROWS = 10_000


def batch_in_range(state: State) -> str | None:
    batch = state.batch
    if batch is None or (type(batch) is int and 1 <= batch <= MOST_ROWS):
        return None
    return (
        f"batch={batch!r} is not a whole number from 1 to {MOST_ROWS};"
        " give one, or leave batch out for a check that gets one row."
    )


def batch_has_a_check(state: State) -> str | None:
    if state.batch is None or state.automatic:
        return None
    return (
        "no check runs in a terminal or manual state, so nothing would get a batch; remove batch."
    )


def batch_is_not_atomic(state: State) -> str | None:
    if state.batch is None or not state.atomic:
        return None
    return (
        "batch and atomic=True exclude each other, because in one transaction the failure of one"
        " row would undo all the others; leave one of them out."
    )
