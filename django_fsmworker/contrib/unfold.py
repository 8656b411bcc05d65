"""The admin's classes for sites of django-unfold: its forms and lists, and its colours for ours.

``register_records(site)`` puts the records there; models with a life are registered with
``StatorModelAdmin``, or with a class of your own that derives from it.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.forms import Media
from unfold.admin import ModelAdmin

from django_fsmworker import admin
from django_fsmworker.admin.formatting import ModelAdminPart
from django_fsmworker.models import (
    BulkAction,
    Event,
    FailureRecord,
    StatorLog,
    TransitionRecord,
    Worker,
)

STYLES = ["django_fsmworker/unfold.css"]


class UnfoldedPart(ModelAdminPart):
    """The part of an admin that gives its pages Unfold's colours; to be named first."""

    @property
    def media(self) -> Media:
        """The files of the other bases, and that style."""
        return super().media + Media(css={"all": STYLES})


class StatorModelAdminMixin(UnfoldedPart, admin.StatorModelAdminMixin):
    """As that of ``django_fsmworker.admin``, to be named before Unfold's ``ModelAdmin``."""


class StatorModelAdmin(StatorModelAdminMixin, ModelAdmin):
    """As that of ``django_fsmworker.admin``, with Unfold's ``ModelAdmin`` as its base."""


class FailureRecordAdmin(UnfoldedPart, admin.FailureRecordAdmin, ModelAdmin):
    """Failure records."""


class StatorLogAdmin(UnfoldedPart, admin.StatorLogAdmin, ModelAdmin):
    """Stretches of work."""


class TransitionRecordAdmin(UnfoldedPart, admin.TransitionRecordAdmin, ModelAdmin):
    """The transition log."""


class EventAdmin(UnfoldedPart, admin.EventAdmin, ModelAdmin):
    """Durable events."""


class BulkActionAdmin(UnfoldedPart, admin.BulkActionAdmin, ModelAdmin):
    """Bulk actions."""


class WorkerAdmin(UnfoldedPart, admin.WorkerAdmin, ModelAdmin):
    """Workers, and the dashboard."""


RECORDS: dict[Any, type[ModelAdmin]] = {
    BulkAction: BulkActionAdmin,
    Event: EventAdmin,
    FailureRecord: FailureRecordAdmin,
    StatorLog: StatorLogAdmin,
    TransitionRecord: TransitionRecordAdmin,
    Worker: WorkerAdmin,
}


def register_records(site: AdminSite) -> None:
    """Register the records with these classes, in the place of those that ``site`` has for them."""
    for model, model_admin in RECORDS.items():
        if site.is_registered(model):
            site.unregister(model)
        site.register(model, model_admin)
