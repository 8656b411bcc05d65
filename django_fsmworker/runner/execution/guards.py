"""The guards of claimed rows: a row that one of them decides does not come to its check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django_fsmworker.graph import Transition
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.runner.execution.ages import outlived, too_early
from django_fsmworker.runner.execution.outcomes import OutcomeBuilder
from django_fsmworker.store import Outcome, Store
from django_fsmworker.store.errors import blames_statement, is_contention, is_outage

Decision = Transition | Exception


def decisions(
    store: Store, model: Any, guards: Sequence[Transition], keys: Sequence[Any]
) -> dict[Any, Decision]:
    """The guard that moves each row of ``keys``, or the error in which asking about it ended.

    A row of which no guard is true is left out. The database evaluates a condition for all rows or
    for none, so where it fails the rows are halved until the one to blame stands alone. Raises what
    is no row's fault: the database is away, or could not decide between two transactions.
    """
    try:
        with store.inside():
            return dict(store.first_true(model, guards, keys))
    except Exception as error:
        if is_outage(error) or is_contention(error) or store.mismatch(model, error):
            raise
        if len(keys) == 1 or blames_statement(error):
            return dict.fromkeys(keys, error)
    middle = len(keys) // 2
    first = decisions(store, model, guards, keys[:middle])
    return first | decisions(store, model, guards, keys[middle:])


def guard_outcome(
    store: Store, row: Any, age: float, caught: list[BaseException] | None = None
) -> Outcome | None:
    """The outcome of one row that a guard decides here and now; None if its check is to run.

    ``caught`` is a list for the exception of a guard that failed.
    """
    builder = OutcomeBuilder.of_row(row)
    state = builder.state
    if not state.guards or too_early(row, state, age) or outlived(row, state, age):
        return None
    key, model = builder.pk, declaring_model(type(row))
    decision = decisions(store, model, builder.state.guards, [key]).get(key)
    if decision is None:
        return None
    if caught is not None and isinstance(decision, Exception):
        caught.append(decision)
    return builder.of_guard(decision, age)
