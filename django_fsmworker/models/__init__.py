"""Models with a life: ``StatorModel``, its fields, its queryset and this package's records."""

from __future__ import annotations

from django_fsmworker.models.bulk_action import BulkAction
from django_fsmworker.models.event import Event
from django_fsmworker.models.explanation import Explanation, Reason
from django_fsmworker.models.fields import (
    StateField,
    StateHistoryField,
    StateLifeEndsField,
    StateTraceField,
)
from django_fsmworker.models.limits import Bucket, Pause, Permit
from django_fsmworker.models.offers import EventOffer
from django_fsmworker.models.querysets import StatorQuerySet
from django_fsmworker.models.records import FailureRecord, StatorLog, TransitionRecord
from django_fsmworker.models.stator_model import StatorModel
from django_fsmworker.models.telling import moved_by
from django_fsmworker.models.worker import Worker

__all__ = [
    "Bucket",
    "BulkAction",
    "Event",
    "EventOffer",
    "Explanation",
    "FailureRecord",
    "Pause",
    "Permit",
    "Reason",
    "StateField",
    "StateHistoryField",
    "StateLifeEndsField",
    "StateTraceField",
    "StatorLog",
    "StatorModel",
    "StatorQuerySet",
    "TransitionRecord",
    "moved_by",
    "Worker",
]
