"""The example of the README, as it stands there."""

from __future__ import annotations

from datetime import timedelta

from django.db import models

from django_fsmworker.graph import State, StateGraph, exponential
from django_fsmworker.models import StateField, StatorModel
from testapp import carrier


class OrderStates(StateGraph):
    new = State(retry_after=30)
    paid = State(max_attempts=5, backoff=exponential(base=2))
    shipped = State(delete_after=timedelta(days=30))
    failed = State()

    new.transitions_to(paid)
    new.timeout_to(failed, seconds=3600)
    paid.transitions_to(shipped)
    paid.fails_to(failed)

    @classmethod
    def check_new(cls, order):
        return cls.paid if order.payment_id else None

    @classmethod
    def check_paid(cls, order):
        order.tracking = carrier.ship(order, key=f"ship-{order.pk}")
        order.save()
        return cls.shipped


class Order(StatorModel):
    state = StateField(OrderStates)
    payment_id = models.CharField(max_length=40, blank=True)
    tracking = models.CharField(max_length=40, blank=True)
