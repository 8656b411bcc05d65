"""When a row is due after it entered a state, or after it stayed in one."""

from __future__ import annotations

from django_fsmworker.graph import State


def first_due(state: State) -> float | None:
    """Seconds from entering ``state`` until the runner has something to do; None for never.

    A state's timeout has its own due time, so it fires in manual states too, and does not wait for
    the next try. Sweeps find their rows without one.
    """
    return earliest(state.start_after if state.checked else None, state.timeout_after)


def earliest(one: float | None, other: float | None) -> float | None:
    """The shorter of two durations, as far as they are given."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
