"""Rows that guards move: beside a check, and in states that have no check at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Abs
from django.db.models.lookups import GreaterThan, LessThanOrEqual

from django_fsmworker.graph import State, StateGraph, constant
from django_fsmworker.models import StateField, StateHistoryField, StatorModel

# A guard fails in every database for the number that has no absolute value.
UNASKABLE = -(2**63)
LARGE = 1000


class DeliveryStates(StateGraph):
    pending = State(force_initial=True, max_attempts=2, backoff=constant(60))
    held = State()
    signing = State(max_attempts=2, backoff=constant(60))
    delivered = State()
    gone = State()

    pending.transitions_to(held, when=Q(endpoint__paused=True))
    pending.transitions_to(signing, when=GreaterThan(Abs("amount"), LARGE))
    pending.transitions_to(delivered)
    pending.fails_to(gone)
    held.transitions_to(gone, when=Q(endpoint__removed=True))
    held.transitions_to(pending, when=Q(endpoint__paused=False))
    held.timeout_to(gone, seconds=600)
    signing.transitions_to(delivered, when=Q(receipts__signed=True))
    signing.transitions_to(pending, when=LessThanOrEqual(Abs("amount"), LARGE))
    signing.fails_to(gone)

    @classmethod
    def check_pending(cls, row: Delivery) -> Any:
        return DELIVERIES[row.mode](row)


class Endpoint(models.Model):
    """Where deliveries go."""

    paused = models.BooleanField(default=False)
    removed = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"endpoint {self.pk}"


class Delivery(StatorModel):
    state_tenant = "endpoint"

    state = StateField(DeliveryStates)
    state_history = StateHistoryField()
    endpoint = models.ForeignKey(Endpoint, models.SET_NULL, null=True, related_name="+")
    amount = models.BigIntegerField(default=0)
    mode = models.CharField(max_length=40, default="deliver")

    def __str__(self) -> str:
        return f"delivery {self.pk}"


class Receipt(models.Model):
    """A delivery has any number of them."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="receipts")
    signed = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"receipt {self.pk}"


DELIVERIES: dict[str, Callable[[Delivery], Any]] = {
    "deliver": lambda row: "delivered",
    "stay": lambda row: None,
}
