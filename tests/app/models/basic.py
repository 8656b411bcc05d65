"""The ancestor's example: every kind of state once."""

from __future__ import annotations

import time
from typing import Any

from django.db import models

from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StatorModel


class BasicStates(StateGraph):
    new = State(retry_after=5)
    slow = State(retry_after=5)
    done = State(externally_progressed=True)
    timed_out = State(delete_after=10)
    pending_delete = State(retry_after=5, start_after=5)
    deleted = State(delete_after=10)

    new.transitions_to(done)
    new.transitions_to(slow)
    new.transitions_to(pending_delete)
    new.timeout_to(timed_out, seconds=10)
    slow.transitions_to(done)
    done.transitions_to(pending_delete)
    pending_delete.transitions_to(deleted)

    @classmethod
    def check_new(cls, instance: BasicModel) -> Any:
        return cls.done if instance.ready else None

    @classmethod
    def check_slow(cls, instance: BasicModel) -> Any:
        time.sleep(2)
        return cls.done

    @classmethod
    def check_pending_delete(cls, instance: BasicModel) -> Any:
        return cls.deleted if instance.ready else None


class BasicModel(StatorModel):
    state = StateField(BasicStates)
    ready = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"basic {self.pk}"
