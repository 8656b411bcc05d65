"""What a user writes, as type checkers see it: mypy and pyright read this file, nothing runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Self, assert_type

from django.db import models

from django_fsmworker.admin import StatorModelAdmin
from django_fsmworker.events import asubmit_event, submit_event
from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.graph import EventInfo, State, StateGraph
from django_fsmworker.models import (
    EventOffer,
    StateField,
    StateHistoryField,
    StateLifeEndsField,
    StateTraceField,
    StatorModel,
    StatorQuerySet,
)
from django_fsmworker.runner import AttemptInfo, StatorRunner


class OrderStates(StateGraph):
    placed = State(retry_after=timedelta(minutes=1), max_attempts=8)
    paid = State(manual=True)
    shipped = State(delete_after=timedelta(days=7))

    placed.transitions_to(paid)
    placed.on("pay", to=paid, when=models.Q(total__gt=0), action="book", permission="shop.pay")
    paid.transitions_to(shipped)
    placed.timeout_to(shipped, seconds=86_400)
    StateGraph.lifetime(shipped, timedelta(days=3))
    StateGraph.lifetime("shipped", 3)  # type: ignore[arg-type]

    @classmethod
    def book(cls, order: Order, event: EventInfo) -> None:
        order.total -= event.context["amount"]

    @classmethod
    async def abook(cls, order: Order, event: EventInfo) -> None: ...

    @classmethod
    def lost(cls, order: Order) -> None: ...

    @classmethod
    def is_owner(cls, order: Order, user: Any) -> bool:
        return bool(user.pk == order.pk)

    paid.on("ship", to=shipped, action=book, permission=is_owner)
    paid.on("aship", to=shipped, action=abook, unhandled="discard")
    paid.on("lose", action=lost)  # type: ignore[arg-type]
    paid.on("drop", unhandled="drop")  # type: ignore[arg-type]

    @classmethod
    def check_placed(cls, order: Order) -> State | None:
        if order.total > 100:
            raise TryAgainLater(delay=30)
        return cls.paid


class OrderQuerySet(StatorQuerySet["Order"]):
    def large(self) -> Self:
        return self.filter(total__gt=100)


class Order(StatorModel):
    total = models.IntegerField(default=0)
    state = StateField(OrderStates)
    state_life_ends = StateLifeEndsField()
    state_history = StateHistoryField()
    state_trace = StateTraceField()

    objects = OrderQuerySet.as_manager()


class Invoice(StatorModel):
    """Without a manager of its own."""

    state = StateField(OrderStates)


class OrderAdmin(StatorModelAdmin):
    list_display = ("total",)


def columns(order: Order) -> None:
    assert_type(order.state, str)
    assert_type(order.state_changed, datetime)
    assert_type(order.state_next, datetime | None)
    assert_type(order.state_lease, datetime | None)
    assert_type(order.state_claim, int | None)
    assert_type(order.state_failures, int)
    assert_type(order.state_life_ends, datetime | None)
    assert_type(order.state_history, list[list[str]])
    assert_type(order.state_trace, str)
    assert_type(order.state_age, float)
    assert_type(order.state_graph, type[StateGraph])
    order.state = OrderStates.paid
    order.state = "paid"
    order.state_next = None
    order.state_life_ends = None
    order.save()
    order.save(update_fields=["state"])


def any_row(row: StatorModel) -> None:
    assert_type(row.state, str)
    assert_type(row.state_changed, datetime)
    assert_type(row.state_next, datetime | None)


def events(order: Order) -> None:
    assert_type(order.state_send("pay", by="job", amount=3), State)
    assert_type(order.state_touch(after=timedelta(seconds=5)), bool)
    for offer in order.state_events():
        assert_type(offer, EventOffer)
        assert_type(offer.target, State | None)
    assert_type(OrderStates.paid.events["ship"][0].target, State | None)
    assert_type(order.state_submit("pay", {"amount": 3}, delay=5, idempotency_key="a"), int)
    assert_type(submit_event((Order, 1), "pay", using="default", by="job"), int)
    assert_type(Order.objects.all().state_submit("pay", max_attempts=3), int)
    Order.objects.all().state_submit("pay", idempotency_key="a")  # type: ignore[call-arg]
    order.state_submit("pay", dely=5)  # type: ignore[call-arg]
    order.state_submit("pay", delay="5")  # type: ignore[arg-type]


async def async_events(order: Order) -> None:
    assert_type(await order.astate_send("pay"), State)
    assert_type(await order.astate_events(), list[EventOffer])
    assert_type(await order.astate_submit("pay", delay=timedelta(minutes=1)), int)
    assert_type(await Order.objects.all().astate_submit("pay", {"amount": 3}), int)
    assert_type(await asubmit_event(order, "pay", expires_in=60), int)


def verbs(order: Order) -> None:
    assert_type(order.state_transition_check(), State | None)
    order.state_transition(OrderStates.paid)
    order.state_transition("paid", force=False)
    order.state_move("paid", only_from=[OrderStates.paid], set={"amount": 1}, running="refuse")
    assert_type(Order.state_get_ready(10, 30.0), list[Order])
    assert_type(Order.state_do_deletes(), int)
    assert_type(Order.state_count_pending(using="default"), int)
    assert_type(Order.state_transition_queryset(Order.objects.all(), "paid"), int)


def querysets() -> None:
    rows = Order.objects.all()
    assert_type(rows.due().first(), Order | None)
    assert_type(rows.large().due().in_state(OrderStates.paid).get(), Order)
    assert_type(Order.objects.due().get(), Order)
    assert_type(Order.objects.in_state("paid").large().running().get(), Order)
    assert_type(Invoice.objects.due().get(), Invoice)
    assert_type(Invoice.objects.failing().oldest_due_first().first(), Invoice | None)
    assert_type(Order.objects.bulk_create([Order()]), list[Order])


@contextmanager
def middleware(attempt: AttemptInfo) -> Iterator[None]:
    assert_type(attempt.state, str)
    assert_type(attempt.target, str | None)
    yield


def graph() -> None:
    assert_type(OrderStates.paid, State)
    assert_type(OrderStates.paid.name, str)
    assert_type(OrderStates.initial_state, State)
    assert_type(OrderStates.choices, list[tuple[str, Any]])


def runner() -> None:
    StatorRunner([Order, Invoice], concurrency=4).run(run_for=0)
