"""What the time says that a row has been in its state, by the database's clock."""

from __future__ import annotations

from typing import Any

from django_fsmworker.graph import State
from django_fsmworker.models.fields import life_ends


def too_early(row: Any, state: State, age: float) -> bool:
    """Whether ``start_after`` is not over yet, for a row inserted by plain SQL: it was due at once.

    ``age`` is how many seconds ago the row entered ``state``.
    """
    return age < state.start_after and row.state_next == row.state_changed


def outlived(row: Any, state: State, age: float) -> bool:
    """Whether the row's life is over, in a state where that counts.

    ``age`` is how many seconds ago the row entered ``state``.
    """
    if state.lifetime_state is None:
        return False
    ends = life_ends(row)
    return ends is not None and age >= (ends - row.state_changed).total_seconds()
