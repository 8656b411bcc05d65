"""Three automatic states in a row, for drains and for runners that are killed."""

from __future__ import annotations

import os
import time
from typing import Any

from django.db import models

from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StateHistoryField, StatorModel
from tests.app.models.trouble import log_check


class ChainStates(StateGraph):
    first = State()
    second = State()
    third = State()
    last = State()

    first.transitions_to(second)
    second.transitions_to(third)
    third.transitions_to(last)

    @classmethod
    def check_first(cls, row: Chain) -> Any:
        return row.step(cls.second)

    @classmethod
    def check_second(cls, row: Chain) -> Any:
        return row.step(cls.third)

    @classmethod
    def check_third(cls, row: Chain) -> Any:
        return row.step(cls.last)


class Chain(StatorModel):
    state = StateField(ChainStates)
    state_history = StateHistoryField()
    logged = models.BooleanField(default=True)
    pause = models.FloatField(default=0.0)

    def __str__(self) -> str:
        return f"chain {self.pk}"

    def step(self, target: Any) -> Any:
        if self.logged:
            log_check(self)
        time.sleep(self.pause)
        return target


class NoopStates(StateGraph):
    new = State()
    done = State()

    new.transitions_to(done)

    @classmethod
    def check_new(cls, row: Noop) -> Any:
        return cls.done


class Noop(StatorModel):
    """A row that asks nothing of its check: what a drain measures is the engine."""

    state = StateField(NoopStates)

    def __str__(self) -> str:
        return f"noop {self.pk} of {os.getpid()}"
