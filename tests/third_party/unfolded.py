"""An admin site of django-unfold with rows that have a life."""

from __future__ import annotations

from django.urls import path
from unfold.sites import UnfoldAdminSite

from django_fsmworker.contrib.unfold import StatorModelAdmin, register_records
from testapp.models import Webhook


class WebhookAdmin(StatorModelAdmin):
    list_display = ("__str__", "endpoint")


site = UnfoldAdminSite(name="unfolded")
site.register(Webhook, WebhookAdmin)
register_records(site)

urlpatterns = [path("unfolded/", site.urls)]
