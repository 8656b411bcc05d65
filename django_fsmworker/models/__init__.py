"""Models with a life: ``StatorModel``, its fields, its queryset and this package's records."""

from __future__ import annotations

from django_fsmworker.models.fields import StateField, StateHistoryField
from django_fsmworker.models.querysets import StatorQuerySet
from django_fsmworker.models.records import FailureRecord, StatorLog
from django_fsmworker.models.stator_model import StatorModel

__all__ = [
    "FailureRecord",
    "StateField",
    "StateHistoryField",
    "StatorLog",
    "StatorModel",
    "StatorQuerySet",
]
