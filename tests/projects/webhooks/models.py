"""A webhook service: an event is delivered to each endpoint that wants it, or given up."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from django.conf import settings
from django.db import models

from django_fsmworker.graph import State, StateGraph, exponential
from django_fsmworker.models import StateField, StatorModel


class Endpoint(models.Model):
    url = models.URLField()


class DeliveryStates(StateGraph):
    pending = State(max_attempts=4, backoff=exponential(base=0.2, jitter=0), deadline=10)
    delivered = State(delete_after=timedelta(days=7))
    refused = State(delete_after=timedelta(days=30))
    gone = State(delete_after=timedelta(days=30))

    pending.transitions_to(delivered)
    pending.transitions_to(refused)
    pending.fails_to(gone)

    @classmethod
    def check_pending(cls, delivery: Delivery) -> State:
        request = Request(
            delivery.endpoint.url,
            json.dumps(delivery.payload).encode(),
            {"Content-Type": "application/json", "Idempotency-Key": f"delivery-{delivery.pk}"},
        )
        try:
            with urlopen(request, timeout=settings.WEBHOOK_TIMEOUT):
                return cls.delivered
        except HTTPError as error:
            if error.code < 500:  # to send the same again would not help
                return cls.refused
            raise


class Delivery(StatorModel):
    state = StateField(DeliveryStates)
    endpoint = models.ForeignKey(Endpoint, models.CASCADE)
    payload = models.JSONField()
