"""The models with a life, in the admin."""

from __future__ import annotations

from django.contrib import admin

from django_fsmworker.admin import StatorModelAdmin
from testapp.models import Endpoint, File, Order, TradeOrder, Webhook

admin.site.register(Order, StatorModelAdmin)


@admin.register(TradeOrder)
class TradeOrderAdmin(StatorModelAdmin):
    list_display = ("__str__", "quantity", "filled", "paid")


@admin.register(File)
class FileAdmin(StatorModelAdmin):
    list_display = ("__str__", "size", "type")
    list_filter = ("type",)
    search_fields = ("path", "sha256")
    fields = readonly_fields = ("path", "size", "type", "sha256")


@admin.register(Webhook)
class WebhookAdmin(StatorModelAdmin):
    list_display = ("__str__", "endpoint")
    list_filter = ("endpoint",)
    list_select_related = ("endpoint",)
    search_fields = ("payload",)


@admin.register(Endpoint)
class EndpointAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "behaviour")
    list_editable = ("behaviour",)
