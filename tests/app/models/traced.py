"""Rows that keep the trace which created them, or moved them last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from django_fsmworker.graph import State, StateGraph, constant
from django_fsmworker.models import StateField, StateTraceField, StatorModel


class TracedStates(StateGraph):
    new = State(force_initial=True, max_attempts=2, backoff=constant(60))
    grouped = State(batch=10)
    calm = State()
    sealed = State(atomic=True)
    weighed = State()
    guarded = State()
    waiting = State(manual=True)
    held = State(manual=True)
    done = State()
    failed = State()

    new.transitions_to(done, held, calm)
    new.fails_to(failed)
    grouped.transitions_to(done)
    calm.transitions_to(done)
    sealed.transitions_to(done)
    weighed.transitions_to(done, when=Q(mode="heavy"))
    guarded.transitions_to(done, when=Q(mode="heavy"))
    waiting.timeout_to(done, seconds=60)
    held.transitions_to(new, grouped, calm, sealed, weighed, guarded, waiting)
    held.on("release", to=new)

    @classmethod
    def check_new(cls, row: Traced) -> Any:
        return CHECKS[row.mode](row)

    @classmethod
    def check_grouped(cls, rows: list[Traced]) -> Any:
        return CHECKS[rows[0].mode](rows)

    @classmethod
    def check_sealed(cls, row: Traced) -> Any:
        return CHECKS[row.mode](row)

    @classmethod
    def check_weighed(cls, row: Traced) -> Any:
        return CHECKS[row.mode](row)

    @classmethod
    async def check_calm(cls, row: Traced) -> Any:
        return await ASYNC_CHECKS[row.mode](row)


class Traced(StatorModel):
    state_tenant: ClassVar[str | None] = "mode"

    state = StateField(TracedStates)
    state_trace = StateTraceField()
    mode = models.CharField(max_length=40, default="finish")

    def __str__(self) -> str:
        return f"traced {self.pk}"


async def _finish(row: Traced) -> str:
    return "done"


CHECKS: dict[str, Callable[[Any], Any]] = {"finish": lambda row: "done"}
ASYNC_CHECKS: dict[str, Callable[[Any], Any]] = {"finish": _finish}
