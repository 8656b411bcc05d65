"""Rows that react to events: of people, of programs, with conditions and actions of every kind."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

from django_fsmworker.graph import EventInfo, State, StateGraph
from django_fsmworker.models import StateField, StateHistoryField, StatorModel


class PurchaseStates(StateGraph):
    open = State(retry_after=60)
    held = State(manual=True)
    approved = State(manual=True)
    rejected = State()
    done = State()

    open.transitions_to(held)
    open.on("cancel", to=rejected, interrupts=True)
    open.on("hold", to=held)
    open.on("poke", action="note", interrupts=True)
    held.on("approve", to=approved, when=Q(amount__lt=1000), permission="tests.approve_purchase")
    held.on("approve", to=approved, permission="is_owner", action="note")
    held.on("pay", to=approved, when="is_enough", action="book", form="tests.app.forms.PayForm")
    held.on("cancel", to=rejected, permission="tests.cancel_purchase", label="Call it off")
    held.on("remark", action="note")
    approved.on("ship", to=done, when=Q(paid__gt=0), action="ship")
    approved.on("act", to=done, action="do")
    approved.on("stay", action="do")
    done.on("remark", action="note")

    @classmethod
    def check_open(cls, row: Purchase) -> State | None:
        return cls.held if row.amount < 0 else None

    @classmethod
    def is_owner(cls, row: Purchase, user: Any) -> bool:
        return bool(row.owner == user.get_username())

    @classmethod
    def is_enough(cls, row: Purchase, event: EventInfo) -> bool:
        return bool(event.context.get("amount", 0) >= row.amount)

    @classmethod
    def note(cls, row: Purchase, event: EventInfo) -> None:
        row.note = f"{row.note}{event.trigger} by {event.by}: {event.context.get('text', '')};"

    @classmethod
    def book(cls, row: Purchase, event: EventInfo) -> None:
        row.paid += event.context["amount"]
        row.save()

    @classmethod
    async def ship(cls, row: Purchase, event: EventInfo) -> None:
        await Purchase.objects.filter(pk=row.pk).aupdate(note="shipped")

    @classmethod
    def do(cls, row: Purchase, event: EventInfo) -> None:
        event.context["call"](row)


class Purchase(StatorModel):
    state = StateField(PurchaseStates)
    state_history = StateHistoryField()
    amount = models.IntegerField(default=0)
    paid = models.IntegerField(default=0)
    owner = models.CharField(max_length=100, default="")
    note = models.TextField(default="", blank=True)

    class Meta:
        permissions = [
            ("approve_purchase", "Can approve a purchase"),
            ("cancel_purchase", "Can cancel a purchase"),
        ]

    def __str__(self) -> str:
        return f"purchase {self.pk}"
