"""Deliveries as the tests of guards need them, and what came of them."""

from __future__ import annotations

from typing import Any

from django_fsmworker.graph import State, Transition
from tests.app.models import Delivery, Endpoint, Receipt


def endpoint(**fields: Any) -> Endpoint:
    return Endpoint.objects.create(**fields)


def delivery(state: str = "pending", **fields: Any) -> Delivery:
    return Delivery.objects.create(state=state, **fields)


def signed(row: Delivery) -> Receipt:
    """The row has a receipt, so the first guard of ``signing`` is true."""
    return Receipt.objects.create(delivery=row, signed=True)


def guards_of(state: State, *conditions: tuple[State, Any]) -> tuple[Transition, ...]:
    """Other guards for the state; they go into the ``__dict__`` of its node."""
    return tuple(Transition(state, target, "guard", when=when) for target, when in conditions)
