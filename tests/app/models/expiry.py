"""Rows that are deleted when their time is over, and some that would not be."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.signals import pre_delete
from django.dispatch import receiver

from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StatorModel


class ExpiringStates(StateGraph):
    kept = State(manual=True)
    gone = State(delete_after=10)

    kept.transitions_to(gone)


class Expiring(StatorModel):
    state = StateField(ExpiringStates)
    stubborn = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"expiring {self.pk}"


class Attachment(models.Model):
    """Goes with its row."""

    row = models.ForeignKey(Expiring, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return f"attached to {self.row_id}"


class Lock(models.Model):
    """Keeps its row."""

    row = models.ForeignKey(Expiring, on_delete=models.PROTECT)

    def __str__(self) -> str:
        return f"protects {self.row_id}"


@receiver(pre_delete, sender=Expiring)
def refuse_stubborn(sender: Any, instance: Expiring, **kwargs: Any) -> None:
    if instance.stubborn:
        raise RuntimeError("it does not want to go")
