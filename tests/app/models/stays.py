"""Rows whose life ends, whatever states they went through."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models import Q

from django_fsmworker.graph import State, StateGraph, constant
from django_fsmworker.models import StateField, StateHistoryField, StateLifeEndsField, StatorModel


class StayStates(StateGraph):
    new = State(force_initial=True, retry_after=3600, max_attempts=3, backoff=constant(3600))
    held = State(manual=True)
    timed = State(manual=True)
    swept = State(retry_after=3600)
    guarded = State(retry_after=3600, start_after=60)
    together = State(batch=10, retry_after=3600)
    whole = State(atomic=True, retry_after=3600, deadline=10)
    leaving = State(retry_after=3600)
    done = State()
    gone = State()

    new.transitions_to(new, held, timed, swept, guarded, together, whole, done)
    held.transitions_to(new)
    held.on("resume", to=new)
    held.on("hold", to=timed)
    timed.timeout_to(held, timedelta(days=2))
    timed.transitions_to(new)
    swept.transitions_to(held, when=Q(flag=True))
    guarded.transitions_to(new, when=Q(flag=True))
    guarded.transitions_to(done)
    together.transitions_to(new)
    whole.transitions_to(new)
    leaving.transitions_to(gone)

    StateGraph.lifetime(leaving, timedelta(days=3))

    @classmethod
    def check_new(cls, row: Stay) -> Any:
        return _check(row)

    @classmethod
    def check_guarded(cls, row: Stay) -> Any:
        return _check(row)

    @classmethod
    def check_together(cls, rows: list[Stay]) -> Any:
        return {row: _check(row) for row in rows}

    @classmethod
    def check_whole(cls, row: Stay) -> Any:
        return _check(row)

    @classmethod
    def check_leaving(cls, row: Stay) -> Any:
        return cls.gone if row.flag else None


def _check(row: Stay) -> Any:
    Stay.checked.append((row.pk, row.state))
    if row.answer == "fail":
        raise RuntimeError("no")
    return row.answer or None


class Stay(StatorModel):
    """``answer`` is what its checks return: the name of a state, ``""`` to stay, or ``"fail"``."""

    state = StateField(StayStates)
    state_life_ends = StateLifeEndsField()
    state_history = StateHistoryField()
    answer = models.CharField(max_length=40, default="", blank=True)
    flag = models.BooleanField(default=False)
    booked = models.DateTimeField(null=True)

    # The rows that were checked in this process, and their states; a test empties it.
    checked: list[tuple[Any, str]] = []

    def __str__(self) -> str:
        return f"stay {self.pk}"
