"""Messages to endpoints of customers: a life with events, a timeout, and much that goes wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models

from django_fsmworker.graph import State, StateGraph, exponential
from django_fsmworker.models import StateField, StatorModel
from testapp import network


class WebhookStates(StateGraph):
    queued = State(force_initial=True, max_attempts=1)
    signed = State(
        max_attempts=6,
        backoff=exponential(base=20, cap=600),
        deadline=60,
        retry_after=5,
        select_related=["endpoint"],
    )
    sent = State(manual=True, label="sent, not confirmed")
    held = State(manual=True)
    confirmed = State(delete_after=timedelta(days=7))
    given_up = State(label="given up")

    queued.transitions_to(signed)
    signed.transitions_to(sent)
    signed.fails_to(given_up)
    sent.on("confirm", to=confirmed, label="Confirm")
    sent.on("hold", to=held, label="Hold back")
    sent.timeout_to(given_up, seconds=timedelta(days=1))
    held.on("release", to=queued, label="Release")
    held.on("drop", to=given_up, label="Drop")

    @classmethod
    def check_queued(cls, row: Webhook) -> Any:
        """A message that cannot be signed is parked: trying again would not help."""
        if not row.payload.isascii():
            raise UnicodeError(f"only ASCII can be signed, and the payload is {row.payload!r}")
        return cls.signed

    @classmethod
    async def check_signed(cls, row: Webhook) -> Any:
        """Call the endpoint; again in a while if it does not answer."""
        return cls.sent if await network.post(row.endpoint) else None


class Endpoint(models.Model):
    """Where webhooks go, and how it behaves."""

    class Behaviour(models.TextChoices):
        ANSWERS = "answers", "answers"
        SLOW = "slow", "does not answer"
        DOWN = "down", "refuses the connection"
        BROKEN = "broken", "answers nonsense"

    name = models.CharField(max_length=100, unique=True)
    behaviour = models.CharField(
        max_length=10, choices=Behaviour.choices, default=Behaviour.ANSWERS
    )

    def __str__(self) -> str:
        return self.name


class Webhook(StatorModel):
    state = StateField(WebhookStates)
    log_transitions = True
    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="webhooks")
    payload = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.payload
