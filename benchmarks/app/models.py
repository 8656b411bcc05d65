"""Rows whose checks do nothing but note that they ran: what is measured is the engine."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from benchmarks.app.steps import IO_SECONDS, STEPS, TIMER_SECONDS
from benchmarks.runlog import VARIABLE, noter
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StatorModel

# Only a process under measurement has a log.
note = noter() if VARIABLE in os.environ else (lambda key: None)


class NoopStates(StateGraph):
    new = State()
    done = State()

    new.transitions_to(done)

    @classmethod
    def check_new(cls, row: Any) -> Any:
        note(row.pk)
        return cls.done


class Noop(StatorModel):
    """The plainest row there is."""

    state = StateField(NoopStates)


class Logged(StatorModel):
    """The same, with a log of its transitions."""

    state = StateField(NoopStates)
    log_transitions = True


class LimitedStates(NoopStates):
    """At most so many at once, of all processes."""

    new = State(limit=4_000)


class Limited(StatorModel):
    """The same, with a limit across the fleet that is never reached."""

    state = StateField(LimitedStates)


class KeyedStates(NoopStates):
    """At most so many of each customer at once, of all processes."""

    new = State(limit=500, limit_by="customer")


class Keyed(StatorModel):
    """The same, with a limit for each of its customers."""

    state = StateField(KeyedStates)
    customer = models.IntegerField(default=0)


class Waiting(StatorModel):
    """The same, in a table that holds many rows of which nothing is to be done."""

    state = StateField(NoopStates)


class Wide(StatorModel):
    """A row of somebody's business, with six indexes of its own."""

    state = StateField(NoopStates)
    customer = models.IntegerField(db_index=True, default=0)
    region = models.CharField(max_length=20, db_index=True, default="")
    reference = models.CharField(max_length=40, db_index=True, default="")
    amount = models.DecimalField(max_digits=12, decimal_places=2, db_index=True, default=0)
    placed = models.DateTimeField(db_index=True, auto_now_add=True)
    flagged = models.BooleanField(db_index=True, default=False)
    note = models.TextField(default="")
    address = models.TextField(default="")


class ChainStates(StateGraph):
    first = State()
    second = State()
    third = State()
    last = State()

    first.transitions_to(second)
    second.transitions_to(third)
    third.transitions_to(last)

    @classmethod
    def check_first(cls, row: Any) -> Any:
        note(STEPS * row.pk)
        return cls.second

    @classmethod
    def check_second(cls, row: Any) -> Any:
        note(STEPS * row.pk + 1)
        return cls.third

    @classmethod
    def check_third(cls, row: Any) -> Any:
        note(STEPS * row.pk + 2)
        return cls.last


class Chain(StatorModel):
    """A row that goes through three states at once."""

    state = StateField(ChainStates)


class SleeperStates(StateGraph):
    new = State()
    done = State()

    new.transitions_to(done)

    @classmethod
    async def check_new(cls, row: Any) -> Any:
        note(row.pk)
        await asyncio.sleep(IO_SECONDS)
        return cls.done


class Sleeper(StatorModel):
    """A row whose check waits for something else, as one that asks a server does."""

    state = StateField(SleeperStates)


class TimerStates(StateGraph):
    new = State(start_after=TIMER_SECONDS)
    done = State()

    new.transitions_to(done)

    @classmethod
    def check_new(cls, row: Any) -> Any:
        note(row.pk)
        return cls.done


class Timer(StatorModel):
    """A row that becomes due a moment after it was made."""

    state = StateField(TimerStates)


class GuardedStates(StateGraph):
    new = State(retry_after=1)
    done = State()

    new.transitions_to(done, when=models.Q(ready=True))


class Guarded(StatorModel):
    """A row that is moved by a query, without a check."""

    state = StateField(GuardedStates)
    ready = models.BooleanField(default=False)


class ReceiverStates(StateGraph):
    open = State(manual=True)

    open.on("poke", action="note")

    @classmethod
    def note(cls, row: Any, event: Any) -> None:
        note(event.id)


class Receiver(StatorModel):
    """A row that is sent durable events, whose action does nothing but note them."""

    state = StateField(ReceiverStates)


class PlainEvent(models.Model):
    """The columns and the indexes of an event's record, declared with Django's own fields."""

    state = models.CharField(max_length=100, default="pending")
    state_changed = models.DateTimeField(auto_now_add=True)
    state_next = models.DateTimeField(null=True, auto_now_add=True)
    state_lease = models.DateTimeField(null=True)
    state_claim = models.BigIntegerField(null=True)
    state_failures = models.SmallIntegerField(default=0)
    model = models.CharField(max_length=200)
    row = models.CharField(max_length=255)
    row_hash = models.BigIntegerField()
    trigger = models.CharField(max_length=100)
    context = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    by = models.CharField(max_length=255, default="")
    by_pk = models.CharField(max_length=255, null=True)  # noqa: DJ001 (as the record has it)
    submitted = models.DateTimeField(auto_now_add=True)
    fires_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)
    max_attempts = models.PositiveSmallIntegerField(default=5)
    idempotency_key = models.CharField(max_length=255, default="")
    idempotency_digest = models.CharField(max_length=64, null=True)  # noqa: DJ001
    reason = models.CharField(max_length=255, default="")
    trace = models.CharField(max_length=55, null=True)  # noqa: DJ001

    class Meta:
        indexes = [
            models.Index(
                fields=["model", "row_hash", "state", "fires_at", "id"],
                condition=models.Q(state="pending"),
                name="benchmarks_event_order",
            ),
            models.Index(
                fields=["state", "model", "state_next"],
                condition=models.Q(state_next__isnull=False),
                name="benchmarks_event_due",
            ),
            models.Index(
                fields=["state"],
                condition=models.Q(state="pending", state_next__isnull=True),
                name="benchmarks_event_stranded",
            ),
            models.Index(
                fields=["state", "state_changed"],
                condition=models.Q(state__in=["delivered", "discarded", "failed", "cancelled"]),
                name="benchmarks_event_expiry",
            ),
            models.Index(fields=["row_hash"], name="benchmarks_event_row"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "idempotency_digest"], name="benchmarks_event_once"
            )
        ]


class Plain(models.Model):
    """The columns and the index of a row with a life, declared with Django's own fields."""

    state = models.CharField(max_length=100, default="new")
    state_changed = models.DateTimeField(auto_now_add=True)
    state_next = models.DateTimeField(null=True, auto_now_add=True)
    state_lease = models.DateTimeField(null=True)
    state_claim = models.BigIntegerField(null=True)
    state_failures = models.SmallIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(
                fields=["state", "state_next"],
                condition=models.Q(state_next__isnull=False),
                name="benchmarks_plain_due",
            )
        ]
