"""Rows as the store's tests need them: claimed, held, and about to be settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import QuerySet, Value

from django_fsmworker import clock
from django_fsmworker.store import Ending, Fence, Lane, Outcome, store_for

LEASE = 30.0
PAST, FUTURE = -timedelta(hours=1), timedelta(hours=1)


def lanes(model: Any, limit: int = 10_000, since: datetime | None = None) -> list[Lane]:
    """Every state of the model's graph as a lane."""
    return [Lane(state, limit, since) for state in model.state_graph.states]


def claim(model: Any, limit: int = 10_000, using: str = "default", **options: Any) -> list[Any]:
    """Claim from every lane."""
    return store_for(using).claim(model, lanes(model, limit), LEASE, **options)


def claimed(model: Any, **fields: Any) -> Any:
    """One new row, claimed."""
    row = model.objects.create(**fields)
    (found,) = [each for each in claim(model) if each.pk == row.pk]
    return found


def put(row: Any, using: str = "default", **columns: Any) -> None:
    """Write columns past every protection; a ``timedelta`` is counted from now."""
    values = {
        name: clock.now() + value if isinstance(value, timedelta) else value
        for name, value in columns.items()
    }
    if "state" in values:  # of another build, maybe: a value that is an expression is not looked at
        values["state"] = Value(values["state"])
    assert QuerySet(type(row), using=using).filter(pk=row.pk).update(**values) == 1


def fetch(row: Any, using: str = "default") -> Any:
    """The row as the database has it."""
    return QuerySet(type(row), using=using).get(pk=row.pk)


def fence(row: Any) -> Fence:
    return Fence(row.pk, row.state_claim, row.state)


def moved(row: Any, target: str, **changes: Any) -> Outcome:
    """The outcome of a check that moved the row."""
    state = type(row).state_graph.get(target)
    return _outcome(row, Ending.MOVED, target, state.first_due, state.timeout_after, changes)


def stayed(row: Any, delay: float | None = 60.0, **changes: Any) -> Outcome:
    """The outcome of a check that left the row where it was."""
    state = type(row).state_graph.get(row.state)
    return _outcome(row, Ending.STAYED, row.state, delay, state.timeout_after, changes)


def _outcome(
    row: Any, ending: Ending, target: str, delay: Any, timeout: Any, changes: Any
) -> Outcome:
    values = {
        "pk": row.pk,
        "row": row,
        "ending": ending,
        "source": row.state,
        "token": row.state_claim,
        "target": target,
        "delay": None if delay is None else float(delay),
        "timeout": timeout,
    }
    return Outcome(**(values | changes))


@dataclass
class Span:
    """When something was done, by the database's clock: neither before nor after."""

    since: datetime
    until: datetime

    def leads_to(self, moment: datetime | None, seconds: float) -> bool:
        """Whether ``moment`` is just so many seconds later, however long it took to do it."""
        assert moment is not None
        return self.since <= moment - timedelta(seconds=seconds) <= self.until


@contextmanager
def timed(using: str = "default") -> Iterator[Span]:
    """The span of what is done in the block; it is known when that has ended."""
    store = store_for(using)
    now = store.now()
    span = Span(now, now)
    yield span
    span.until = store.now()


@contextmanager
def statements(using: str = "default") -> Iterator[list[tuple[str, Any]]]:
    """Every statement sent meanwhile, with its parameters; savepoints are left out."""
    sent: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "SAVEPOINT" not in sql:
            sent.append((sql, params))
        return execute(sql, params, many, context)

    with connections[using].execute_wrapper(note):
        yield sent


def pks(rows: Sequence[Any]) -> list[Any]:
    return [row.pk for row in rows]
