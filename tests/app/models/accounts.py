"""Rows that are sent durable events: what each did to its row is on record, in its order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import models
from django.db.models import Q

from django_fsmworker.graph import EventInfo, State, StateGraph
from django_fsmworker.models import StateField, StateHistoryField, StatorModel

# What the event "call" does, by the name in its context; tests add to it.
ACTIONS: dict[str, Callable[[Any, EventInfo], object]] = {}
CHECKS: dict[str, Callable[[Any], object]] = {}


class AccountStates(StateGraph):
    open = State(manual=True, force_initial=True)
    frozen = State(manual=True)
    checking = State(retry_after=60)
    closed = State()

    open.on("nothing")
    open.on("book", action="book")
    open.on("call", action="call")
    open.on("freeze", to=frozen)
    open.on("check", to=checking)
    open.on("close", to=closed, action="call")
    open.on("rich", to=closed, when=Q(balance__gte=100))
    open.on("drop", to=closed, when="is_never", unhandled="discard")
    open.on("insist", to=closed, when="is_never", unhandled="fail")
    frozen.on("thaw", to=open, permission="tests.thaw_account")
    frozen.on("melt", to=open)
    checking.on("abort", to=open, interrupts=True)
    checking.on("settle", to=open)
    checking.transitions_to(open)

    @classmethod
    def check_checking(cls, row: Account) -> object:
        return CHECKS.get(row.mode, lambda row: None)(row)

    @classmethod
    def is_never(cls, row: Account, event: EventInfo) -> bool:
        return False

    @classmethod
    def book(cls, row: Account, event: EventInfo) -> None:
        Entry.objects.using(row._state.db).create(account=row, number=event.context["number"])
        row.balance += event.context.get("amount", 1)

    @classmethod
    def call(cls, row: Account, event: EventInfo) -> None:
        name = event.context.get("mode")
        if name:
            ACTIONS[name](row, event)


class Account(StatorModel):
    state = StateField(AccountStates)
    state_history = StateHistoryField()
    log_transitions = True
    balance = models.IntegerField(default=0)
    mode = models.CharField(max_length=20, default="")

    class Meta:
        permissions = [("thaw_account", "Can thaw an account")]

    def __str__(self) -> str:
        return f"account {self.pk}"


class Entry(models.Model):
    """What one event has booked; in the order of delivery."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="entries")
    number = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.number} of {self.account_id}"


class LooseStates(StateGraph, order="none"):
    open = State(manual=True)

    open.on("call", action="call")

    @classmethod
    def call(cls, row: Loose, event: EventInfo) -> None:
        ACTIONS[event.context["mode"]](row, event)


class Loose(StatorModel):
    """Its events do not wait for each other. Its key is text."""

    state = StateField(LooseStates)
    name = models.CharField(max_length=50, primary_key=True)

    def __str__(self) -> str:
        return self.name
