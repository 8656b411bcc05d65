"""Rows with a life, and what this package writes down about them, in Django's admin."""

from __future__ import annotations

from django_fsmworker.admin.bulk_actions import BulkActionAdmin
from django_fsmworker.admin.columns import StateColumns
from django_fsmworker.admin.events import EventAdmin
from django_fsmworker.admin.filters import DueFilter, StateFilter
from django_fsmworker.admin.mixin import StatorModelAdmin, StatorModelAdminMixin
from django_fsmworker.admin.records import (
    FailureRecordAdmin,
    StatorLogAdmin,
    TransitionRecordAdmin,
)
from django_fsmworker.admin.workers import WorkerAdmin

__all__ = [
    "BulkActionAdmin",
    "DueFilter",
    "EventAdmin",
    "FailureRecordAdmin",
    "StateColumns",
    "StateFilter",
    "StatorLogAdmin",
    "StatorModelAdmin",
    "StatorModelAdminMixin",
    "TransitionRecordAdmin",
    "WorkerAdmin",
]
