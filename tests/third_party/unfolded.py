"""An admin site of django-unfold with rows that have a life."""

from __future__ import annotations

from django.urls import path
from unfold.admin import ModelAdmin
from unfold.sites import UnfoldAdminSite

from django_fsmworker.admin import FailureRecordAdmin, StatorModelAdminMixin, WorkerAdmin
from django_fsmworker.models import FailureRecord, Worker
from testapp.models import Webhook


class WebhookAdmin(StatorModelAdminMixin, ModelAdmin):
    list_display = ("__str__", "endpoint")


class UnfoldedFailures(FailureRecordAdmin, ModelAdmin):
    pass


class UnfoldedWorkers(WorkerAdmin, ModelAdmin):
    pass


site = UnfoldAdminSite(name="unfolded")
site.register(Webhook, WebhookAdmin)
site.register(FailureRecord, UnfoldedFailures)
site.register(Worker, UnfoldedWorkers)

urlpatterns = [path("unfolded/", site.urls)]
