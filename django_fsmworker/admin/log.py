"""The admin of the log: what each runner did with each model."""

from __future__ import annotations

from django.contrib import admin

from django_fsmworker.admin.filters import ModelFilter
from django_fsmworker.admin.records import RecordAdmin
from django_fsmworker.models import StatorLog


@admin.register(StatorLog)
class StatorLogAdmin(RecordAdmin):
    """Stretches of work, the latest first."""

    list_display = (
        "until",
        "model",
        "worker",
        "moved",
        "stayed",
        "failed",
        "timed_out",
        "interrupted",
        "superseded",
        "expired",
    )
    list_filter = (ModelFilter, "until")
    search_fields = ("worker",)
    ordering = ("-until", "-pk")
