"""An order life: approved by a person, its payment captured, and refunded when it is cancelled."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import Request, urlopen

from django.conf import settings
from django.db import models

from django_fsmworker.graph import State, StateGraph, exponential
from django_fsmworker.models import StateField, StatorModel


def ask_provider(call: str, order: Order) -> dict[str, Any]:
    """Call the payment provider, which does the same thing for the same order once only."""
    request = Request(
        f"{settings.PAYMENT_PROVIDER}/{call}", json.dumps({"order": order.pk}).encode()
    )
    with urlopen(request, timeout=60) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


class OrderStates(StateGraph):
    placed = State(manual=True)
    approved = State(max_attempts=5, backoff=exponential(base=0.2))
    captured = State(manual=True)
    cancelling = State(backoff=exponential(base=0.2, cap=2))
    cancelled = State()
    unpaid = State()

    placed.transitions_to(approved)
    placed.transitions_to(cancelled)
    approved.transitions_to(captured)
    approved.transitions_to(cancelling)
    approved.fails_to(unpaid)
    captured.transitions_to(cancelling)
    cancelling.transitions_to(cancelled)

    @classmethod
    def check_approved(cls, order: Order) -> State:
        order.payment = ask_provider("capture", order)["payment"]
        order.save()
        return cls.captured

    @classmethod
    def check_cancelling(cls, order: Order) -> State:
        """The provider knows whether there is anything to give back; this row may not."""
        order.refunded = ask_provider("refund", order)["refunded"]
        order.save()
        return cls.cancelled


class Order(StatorModel):
    state = StateField(OrderStates)
    payment = models.CharField(max_length=40, blank=True)
    refunded = models.BooleanField(default=False)
