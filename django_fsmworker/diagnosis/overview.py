"""What the rows in each state do, and what becomes of them, in one database or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db import DatabaseError

from django_fsmworker.diagnosis.mismatch import mismatch_of
from django_fsmworker.diagnosis.service import HALF_OPEN, OPEN, HeldBack, Service
from django_fsmworker.diagnosis.status import StateStatus, status_of, total
from django_fsmworker.models.pace import Pace
from django_fsmworker.store import Store, store_for


@dataclass(frozen=True, slots=True)
class StateOverview(StateStatus):
    """The rows of one state; of several databases (``database`` names all of them) their sums.

    ``paused``, ``paused_keys``, ``breaker`` are as in ``HeldBack``, for any of the databases.
    ``workers`` is how many run rows of the model, in the database with the fewest.
    ``per_minute`` counts attempts of the last minute, None where nobody runs; ``p50`` and ``p95``
    are the seconds within which that part of the checks of the last five minutes ended, None if
    none did: estimates, right up to half of themselves.
    """

    paused: bool
    paused_keys: int
    breaker: str
    workers: int
    per_minute: float | None
    p50: float | None
    p95: float | None


Found = tuple[StateStatus, HeldBack, Pace, int]


def overview(
    places: Iterable[tuple[Any, str]], leave_out: Callable[[str], None]
) -> list[StateOverview]:
    """All states of models, each with the alias of a database; one for each model and state.

    ``leave_out`` is told of each table that is not as this code expects it.
    """
    service = cache(Service)
    found: dict[tuple[Any, str], list[Found]] = {}
    for model, using in places:
        there = service(using)
        number = there.workers(model)
        for each in _states(model, store_for(using), leave_out):
            held_back, pace = there.held_back(model, each.state), there.pace(model, each.state)
            own = each, held_back, pace, number if each.declared else 0
            found.setdefault((model, each.state), []).append(own)
    return [_together(some) for some in found.values()]


def _states(model: Any, store: Store, leave_out: Callable[[str], None]) -> list[StateStatus]:
    try:
        with store.inside():
            return status_of(model, store.alias)
    except DatabaseError as error:
        leave_out(mismatch_of(model, store, error))
        return []


def _together(found: Sequence[Found]) -> StateOverview:
    rows, held_back = [each[0] for each in found], [each[1] for each in found]
    numbers, pace = [each[3] for each in found], Pace()
    for each in found:
        pace.merge(each[2])
    oldest = [each.oldest_due for each in rows if each.oldest_due is not None]
    breakers = {each.breaker for each in held_back}
    return StateOverview(
        model=rows[0].model,
        database=",".join(each.database for each in rows),
        state=rows[0].state,
        declared=rows[0].declared,
        rows=total(each.rows for each in rows),
        due=total(each.due for each in rows),
        oldest_due=max(oldest, default=None),
        running=total(each.running for each in rows),
        failing=total(each.failing for each in rows),
        parked=total(each.parked for each in rows),
        paused=any(each.paused for each in held_back),
        paused_keys=sum(each.keys for each in held_back),
        breaker=next((each for each in (OPEN, HALF_OPEN) if each in breakers), ""),
        workers=min(numbers),
        per_minute=round(pace.per_minute, 2) if max(numbers) or pace.per_minute else None,
        p50=pace.seconds(0.5),
        p95=pace.seconds(0.95),
    )
