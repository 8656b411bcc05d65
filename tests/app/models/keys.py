"""Every kind of single-column primary key."""

from __future__ import annotations

import uuid

from django.db import models

from django_fsmworker.models import StateField, StatorModel
from tests.app.models.chain import NoopStates


class UUIDKey(StatorModel):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    state = StateField(NoopStates)

    def __str__(self) -> str:
        return str(self.id)


class TextKey(StatorModel):
    code = models.CharField(max_length=40, primary_key=True)
    state = StateField(NoopStates)

    def __str__(self) -> str:
        return self.code


class RelatedKey(StatorModel):
    text = models.OneToOneField(TextKey, on_delete=models.CASCADE, primary_key=True)
    state = StateField(NoopStates, db_column="life")

    def __str__(self) -> str:
        return f"of {self.pk}"


class HiddenManager(models.Manager["Hidden"]):
    def get_queryset(self) -> models.QuerySet[Hidden]:
        return super().get_queryset().filter(visible=True)


class Hidden(StatorModel):
    """A model whose own manager hides rows; the engine has to see them all the same."""

    state = StateField(NoopStates)
    visible = models.BooleanField(default=False)

    objects = HiddenManager()  # type: ignore[assignment, misc]

    class Meta:
        base_manager_name = "objects"

    def __str__(self) -> str:
        return f"hidden {self.pk}"
