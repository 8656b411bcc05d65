"""Rows in many states, some of them in trouble, as an operator finds them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import cycle, islice
from typing import Any

from django.db.models import QuerySet, Value

from django_fsmworker import clock
from django_fsmworker.models import FailureRecord, StatorLog, TransitionRecord, Worker
from django_fsmworker.models.limits import Pause
from django_fsmworker.pauses import pause
from testapp.models import Endpoint, Order, Webhook

ENDPOINTS = {
    "shop.example": Endpoint.Behaviour.ANSWERS,
    "books.example": Endpoint.Behaviour.ANSWERS,
    "tea.example": Endpoint.Behaviour.DOWN,
    "bikes.example": Endpoint.Behaviour.BROKEN,
    "maps.example": Endpoint.Behaviour.SLOW,
}
OLD_STATE = "posted"
"""A state of an older version of the graph, in which some rows were left."""


def prepare() -> None:
    """Forget all rows of webhooks and orders, and what is on record; then make new trouble."""
    forget()
    endpoints = {
        name: Endpoint.objects.create(name=name, behaviour=behaviour)
        for name, behaviour in ENDPOINTS.items()
    }
    _webhooks(endpoints)
    _orders()
    _past_hours()
    pause(Order, "paid", by="ops", reason="The warehouse is being moved until noon.")


def forget() -> None:
    """Remove the rows of an earlier time, and what runners wrote down about them."""
    for model in (Webhook, Endpoint, Order):
        QuerySet(model).delete()
    labels = [Webhook._meta.label, Order._meta.label]
    for record in (FailureRecord, TransitionRecord, StatorLog, Pause):
        QuerySet(record).filter(model__in=labels).delete()
    QuerySet(Worker).delete()


def _webhooks(endpoints: dict[str, Endpoint]) -> None:
    well = [endpoints["shop.example"], endpoints["books.example"]]
    # Due at once: the runner takes them from here.
    _make("invoice {}", 400, well)
    _make("tea order {}", 60, [endpoints["tea.example"]])
    _make("bicycle {}", 25, [endpoints["bikes.example"]])
    _make("map tile {}", 3, [endpoints["maps.example"]])
    _make("receipt {} for Mr. Müller", 6, well)
    _make("catalogue {}", 40, well, state="held", entered=timedelta(hours=5))
    _make("price list {}", 30, well, state="confirmed", entered=timedelta(days=2))
    _make("newsletter {}", 8, well, state="given_up", entered=timedelta(days=1))
    left = _make("stock level {}", 4, well, state="held", entered=timedelta(days=90))
    QuerySet(Webhook).filter(pk__in=left).update(state=Value(OLD_STATE), state_next=None)


def _make(payload: str, number: int, to: list[Endpoint], **columns: Any) -> list[int]:
    endpoints = islice(cycle(to), number)
    rows = [
        Webhook(endpoint=endpoint, payload=payload.format(count))
        for count, endpoint in enumerate(endpoints, start=1)
    ]
    return _made(rows, **columns)


def _orders() -> None:
    _made([Order(payment_id="") for _ in range(120)])
    paid = _made([Order(payment_id=f"pay-{number}") for number in range(35)], state="paid")
    due = clock.now() - timedelta(minutes=7)
    QuerySet(Order).filter(pk__in=paid).update(state_next=due)
    shipped = [Order(payment_id=f"pay-{number}", tracking=f"T{number}") for number in range(200)]
    _made(shipped, state="shipped", entered=timedelta(days=3))


def _past_hours() -> None:
    """What runners would have written down about the last two hours, which begins to fail."""
    now, step = clock.now(), timedelta(minutes=5)
    StatorLog.objects.bulk_create(
        StatorLog(
            model=model._meta.label,
            worker="earlier@demo",
            since=now - (number + 1) * step,
            until=now - number * step,
            moved=busy + busy * (number * 7 % 5) // 8,
            failed=max(0, busy - 30 * number),
        )
        for model, busy in ((Webhook, 180), (Order, 60))
        for number in range(1, 24)
    )


def _made(rows: Iterable[Any], *, state: str = "", entered: timedelta = timedelta()) -> list[int]:
    """Write the rows; if one is given, in ``state``, for as long as ``entered``."""
    rows = list(rows)
    for row in rows:
        if state:
            row.state = state
    model: Any = type(rows[0])
    keys = [row.pk for row in model.objects.bulk_create(rows)]
    if entered:
        # A new row is as old as its record.
        QuerySet(model).filter(pk__in=keys).update(state_changed=clock.now() - entered)
    return keys
