"""The guards of rows in hand: what they decide, the check does not get to see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import DatabaseError, NotSupportedError, ProgrammingError

from django_fsmworker.graph import Transition
from django_fsmworker.models.discovery import declaring_model
from django_fsmworker.models.keys import key_of
from django_fsmworker.runner.judging.one import failed, too_early
from django_fsmworker.runner.judging.verdicts import Verdict
from django_fsmworker.store import Outcome, Store
from django_fsmworker.store.errors import is_contention, is_outage, number, sqlstate
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.guards import first_true
from django_fsmworker.store.mysql_errors import STATEMENT_NUMBERS

Answer = Transition | Exception

QUERY_CANCELED = "57014"  # by statement_timeout


def answers(
    store: Store, model: Any, guards: Sequence[Transition], keys: Sequence[Any]
) -> dict[Any, Answer]:
    """The guard that moves each row of ``keys``, or the error in which asking about it ended.

    A row of which no guard is true is left out. The database evaluates a condition for all rows or
    for none, so where it fails the rows are halved until the one to blame stands alone. Raises what
    is no row's fault: the database is away, or could not decide between two transactions.
    """
    try:
        with store.inside():
            return dict(first_true(model, guards, keys, store.alias))
    except Exception as error:
        if is_outage(error) or is_contention(error):
            raise
        if len(keys) == 1 or is_of_the_guard(error):
            return dict.fromkeys(keys, error)
    middle = len(keys) // 2
    first = answers(store, model, guards, keys[:middle])
    return first | answers(store, model, guards, keys[middle:])


def is_of_the_guard(error: Exception) -> bool:
    """Whether the condition itself is wrong or takes too long, whatever row it is asked about."""
    if not isinstance(error, DatabaseError) or sqlstate(error) == QUERY_CANCELED:
        return True
    unknown = str(error).startswith("no such ")  # a table, a column or a function, says SQLite
    known = unknown or number(error) in STATEMENT_NUMBERS
    return isinstance(error, ProgrammingError | NotSupportedError) or known


def decided(row: Any, pk: Any, token: int | None, age: float, answer: Answer) -> Outcome:
    """The outcome of an attempt that ended before its check, by a guard that was true or failed."""
    state = type(row).state_graph.get(row.__dict__["state"])
    if isinstance(answer, Exception):
        return failed(row, pk, token, state, Failure.of(answer), age)
    return Verdict(row, pk, token, state).moved(answer.target, "guard")


def by_guard(
    store: Store, row: Any, age: float, caught: list[BaseException] | None = None
) -> Outcome | None:
    """The outcome of one row that a guard decides, here and now; None if its check is to run.

    Whoever wants the exception of a guard that failed passes the list ``caught``.
    """
    state = type(row).state_graph.get(row.__dict__["state"])
    if not state.guards or too_early(row, state, age):
        return None
    key, model = key_of(row), declaring_model(type(row))
    answer = answers(store, model, state.guards, [key]).get(key)
    if answer is None:
        return None
    if caught is not None and isinstance(answer, Exception):
        caught.append(answer)
    return decided(row, key, row.__dict__["state_claim"], age, answer)
