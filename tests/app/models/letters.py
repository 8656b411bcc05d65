"""Rows whose checks get many of them at a time: ``batch=N``, plain and ``async def``."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from django.db import models

from django_fsmworker.graph import State, StateGraph, constant
from django_fsmworker.models import StateField, StateHistoryField, StatorModel
from tests.app.models.trouble import CheckLog


class LetterStates(StateGraph):
    new = State(batch=20, retry_after=60, max_attempts=3, backoff=constant(60))
    flying = State(batch=20, retry_after=60, max_attempts=3, backoff=constant(60))
    waiting = State(manual=True)
    done = State()
    failed = State()

    new.transitions_to(flying, waiting, done)
    new.fails_to(failed)
    flying.transitions_to(done)
    flying.fails_to(failed)
    waiting.transitions_to(done)

    @classmethod
    def check_new(cls, rows: list[Letter]) -> Any:
        return CHECKS["new"](rows)

    @classmethod
    async def check_flying(cls, rows: list[Letter]) -> Any:
        return await CHECKS["flying"](rows)


class Letter(StatorModel):
    state = StateField(LetterStates)
    log_transitions = True
    state_history = StateHistoryField()
    mode = models.CharField(max_length=40, default="")
    value = models.IntegerField(default=0)
    pause = models.FloatField(default=0.0)

    def __str__(self) -> str:
        return f"letter {self.pk}"


def _log(rows: list[Letter]) -> list[CheckLog]:
    worker, now = str(os.getpid()), time.time()
    return [CheckLog(row=str(row.pk), state=row.state, worker=worker, at=now) for row in rows]


def post(rows: list[Letter]) -> Any:
    """Note that the check began, and take as long as the slowest."""
    CheckLog.objects.bulk_create(_log(rows))
    time.sleep(max(row.pause for row in rows))
    return dict.fromkeys(rows, "flying")


async def fly(rows: list[Letter]) -> Any:
    await CheckLog.objects.abulk_create(_log(rows))
    await asyncio.sleep(max(row.pause for row in rows))
    return ["done" for _ in rows]


# What runs in each state; tests put their own checks here.
CHECKS: dict[str, Any] = {"new": post, "flying": fly}
