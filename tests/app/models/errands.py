"""Rows whose checks are ``async def``, beside a state with a plain one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from django.db import models

from django_fsmworker.graph import State, StateGraph, constant
from django_fsmworker.models import StateField, StatorModel


class ErrandStates(StateGraph):
    new = State(retry_after=60, max_attempts=3, backoff=constant(60))
    plain = State(retry_after=60)
    done = State()
    failed = State()

    new.transitions_to(done, plain)
    new.fails_to(failed)
    plain.transitions_to(done)

    @classmethod
    async def check_new(cls, row: Errand) -> Any:
        return await ERRANDS[row.mode](row)

    @classmethod
    def check_plain(cls, row: Errand) -> Any:
        return PLAIN[row.mode](row)


class Errand(StatorModel):
    state = StateField(ErrandStates)
    mode = models.CharField(max_length=40, default="succeed")
    value = models.FloatField(default=0.0)

    def __str__(self) -> str:
        return f"{self.mode} {self.pk}"


async def succeed(row: Errand) -> Any:
    await asyncio.sleep(row.value)
    return "done"


ERRANDS: dict[str, Callable[[Errand], Awaitable[Any]]] = {"succeed": succeed}
PLAIN: dict[str, Callable[[Errand], Any]] = {"succeed": lambda row: "done"}
