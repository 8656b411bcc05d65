"""How many rows of a model are in each state, and what they wait for.

The rows of a small table are counted. Of a large one the oldest of each lane are looked at, and the
rest is estimated from what the database knows, so that it takes no longer with a million rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, Min, Q, QuerySet

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models import StatorQuerySet
from django_fsmworker.models.functions import DatabaseNow, leased, unleased
from django_fsmworker.models.keys import declaring_model, key_name
from django_fsmworker.models.records import FailureRecord
from django_fsmworker.store import Store, store_for

# Rows up to which a table is counted, and rows of a lane that are looked at in a larger one.
COUNTED = 20_000
WALKED = 2_000

HELD = leased() & Q(state_claim__isnull=False)
DUE = unleased() & Q(state_next__lte=DatabaseNow())
PARKED = Q(state_next__isnull=True) & ~Q(state_failures=0)


@dataclass(frozen=True, slots=True)
class Number:
    """How many rows: counted, or about so many."""

    number: int
    estimated: bool = False

    def __str__(self) -> str:
        return f"~{self.number}" if self.estimated else str(self.number)


def total(numbers: Iterable[Number]) -> Number:
    """Their sum; an estimate if one of them is."""
    some = list(numbers)
    return Number(sum(each.number for each in some), any(each.estimated for each in some))


@dataclass(frozen=True, slots=True)
class StateStatus:
    """The rows of one state; ``oldest_due`` is how many seconds the first has been due.

    ``declared``: this code's graph has the state. ``failing`` rows are tried again or parked.
    """

    model: str
    database: str
    state: str
    declared: bool
    rows: Number
    due: Number
    oldest_due: float | None
    running: Number
    failing: Number
    parked: Number

    def as_dict(self) -> dict[str, Any]:
        """In plain types."""
        return asdict(self)


def status_of(model: Any, using: str, within: QuerySet[Any] | None = None) -> list[StateStatus]:
    """Each state of the graph, and each other one that rows are in.

    ``within`` are the rows to tell of, instead of all. What the database knows is about all of
    them, so of many rows ``within`` the first are counted, and the numbers are estimates: at least
    so many.
    """
    store = store_for(using)
    rows: QuerySet[Any] = StatorQuerySet(model, using=using)
    if within is not None:
        rows = rows.filter(pk__in=within.order_by().values("pk"))
    if not are_many(rows):
        return _counted(model, rows, store)
    if within is not None:
        return _begun(model, rows, store)
    return _estimated(model, rows, store)


def are_many(rows: QuerySet[Any]) -> bool:
    """Whether ``rows`` are more than are counted; that takes as long for any number of them."""
    return rows.order_by()[: COUNTED + 1].count() > COUNTED


def numbers_by_state(rows: QuerySet[Any]) -> dict[str, Number]:
    """How many of ``rows`` are in each state, in two or three queries however many they are.

    Those of a large table are estimates. For a large part of a table there are none.
    """
    rows, model = rows.order_by(), rows.model
    if not are_many(rows):
        # A join may bring a row several times, of which DISTINCT would leave one too late.
        key = Count("pk", distinct=rows.query.distinct)
        counted = rows.values_list("state").annotate(number=key)
        return {state: Number(number) for state, number in counted}
    if rows.query.where or rows.query.is_sliced or key_name(model) != "pk":
        return {}
    numbers, estimated = store_for(rows.db).statistics.rows_by_state(declaring_model(model))
    return {state: Number(number, estimated) for state, number in numbers.items()}


def _counted(model: Any, rows: QuerySet[Any], store: Store) -> list[StateStatus]:
    found = rows.order_by().values("state").annotate(**_counts())
    return _as_counted(model, {each["state"]: each for each in found}, store)


def _begun(model: Any, rows: QuerySet[Any], store: Store) -> list[StateStatus]:
    """The first rows of each state that the graph declares are counted."""
    columns = ("state", "state_next", "state_lease", "state_claim", "state_failures")
    some = rows.order_by().values(*columns)
    found = {
        state: some.filter(state=state)[:WALKED].aggregate(**_counts())
        for state in model.state_graph.states
    }
    return _as_counted(model, found, store, cut=True)


def _counts() -> dict[str, Any]:
    return {
        "number": Count("*"),
        "is_due": Count("state", filter=DUE),
        "first_due": Min("state_next", filter=DUE),
        "is_held": Count("state", filter=HELD),
        "is_failing": Count("state", filter=Q(state_failures__gt=0)),
        "is_parked": Count("state", filter=PARKED),
    }


def _as_counted(
    model: Any, by_state: dict[str, Any], store: Store, cut: bool = False
) -> list[StateStatus]:
    now = store.now()

    def number(each: dict[str, Any], name: str) -> Number:
        return Number(each.get(name, 0), cut and each.get("number", 0) >= WALKED)

    return [
        StateStatus(
            model=model._meta.label,
            database=store.alias,
            state=state,
            declared=state in model.state_graph.states,
            rows=number(each, "number"),
            due=number(each, "is_due"),
            oldest_due=_age(each.get("first_due"), now),
            running=number(each, "is_held"),
            failing=number(each, "is_failing"),
            parked=number(each, "is_parked"),
        )
        for state in _states(model, by_state)
        for each in [by_state.get(state, {})]
    ]


def _estimated(model: Any, rows: QuerySet[Any], store: Store) -> list[StateStatus]:
    statistics = store.statistics
    numbers, estimated = statistics.rows_by_state(model)
    numbers = store.undeclared_states(model, WALKED) | numbers  # few rows may be in no statistics
    at_rest = statistics.at_rest(model, WALKED)
    cut = sum(map(sum, at_rest.values())) >= WALKED
    failing = _failing(model, store.alias)
    now, found = store.now(), []
    for state in _states(model, numbers):
        due, first, running = _walk(rows.filter(state=state), store)
        parked = at_rest.get(state, (0, 0))[0]
        at_least = due.number + running.number + parked
        found.append(
            StateStatus(
                model=model._meta.label,
                database=store.alias,
                state=state,
                declared=state in model.state_graph.states,
                rows=Number(max(numbers.get(state, 0), at_least), estimated),
                due=due,
                oldest_due=_age(first, now),
                running=running,
                failing=Number(failing.get(state, 0), True),
                parked=Number(parked, cut),
            )
        )
    return found


def _walk(rows: QuerySet[Any], store: Store) -> tuple[Number, Any, Number]:
    """The due rows of one state, the first due time, and the rows that are held.

    Held are the oldest of a lane, and those whose due time a renewal has moved to the end of their
    lease, so it takes a look at both.
    """
    past = rows.filter(state_next__lte=DatabaseNow())
    soon = DatabaseNow() + timedelta(seconds=RunnerSettings.load().lease)
    renewed = rows.filter(state_next__gt=DatabaseNow(), state_next__lte=soon)
    first = _looked_at(past)
    second = _looked_at(renewed)
    cut = first["number"] >= WALKED
    number = first["is_due"]
    if cut:
        number = max(number, store.statistics.number_of(past))
    held = first["is_held"] + second["is_held"]
    return (
        Number(number, cut),
        first["first_due"],
        Number(held, cut or second["number"] >= WALKED),
    )


def _looked_at(rows: QuerySet[Any]) -> dict[str, Any]:
    """What the first rows of a stretch of a lane come to."""
    some = rows.order_by("state_next").values(
        "state_next", "state_lease", "state_claim", "state_failures"
    )[:WALKED]
    return some.aggregate(
        number=Count("*"),
        is_due=Count("state_next", filter=DUE),
        first_due=Min("state_next", filter=DUE),
        is_held=Count("state_next", filter=HELD),
    )


def _failing(model: Any, alias: str) -> dict[str, int]:
    """By state, the failures on record that are not resolved; up to some number."""
    records: QuerySet[FailureRecord] = QuerySet(FailureRecord, using=alias)
    some = records.filter(model=model._meta.label, resolved=None, count__gt=0, went_to="")
    states = some.order_by().values_list("state", flat=True)[:WALKED]
    found: dict[str, int] = {}
    for state in states:
        found[state] = found.get(state, 0) + 1
    return found


def _states(model: Any, found: Iterable[str]) -> list[str]:
    """The names of the graph's states in their order, then the others that were found."""
    return list(dict.fromkeys([*model.state_graph.states, *sorted(found)]))


def _age(moment: Any, now: Any) -> float | None:
    return None if moment is None else max(0.0, (now - moment).total_seconds())
