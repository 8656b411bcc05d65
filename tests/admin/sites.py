"""The admin sites that these tests visit, and their addresses."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import path

from django_fsmworker.admin import (
    BulkActionAdmin,
    EventAdmin,
    FailureRecordAdmin,
    StatorLogAdmin,
    StatorModelAdmin,
    TransitionRecordAdmin,
    WorkerAdmin,
)
from django_fsmworker.admin.mixin import StatorModelAdminMixin
from django_fsmworker.models import (
    BulkAction,
    Event,
    FailureRecord,
    StatorLog,
    TransitionRecord,
    Worker,
)
from testapp.models import Order
from tests.app.models import (
    Account,
    BasicModel,
    ChildKind,
    Delivery,
    InvoiceKind,
    LabelledKind,
    Noop,
    Parcel,
    ParentKind,
    ProxyKind,
    Purchase,
    TextKey,
)


class OwnBase(admin.ModelAdmin):  # type: ignore[type-arg]
    """An admin of somebody else, with a page of its own."""

    list_display = ("pk", "shown_due", "state")
    list_filter = [["state", admin.ChoicesFieldListFilter], "tracking"]
    fieldsets = [(None, {"fields": ["payment_id", ("state", "shown_age")]})]
    readonly_fields = ("shown_age",)


class OrderAdmin(StatorModelAdminMixin, OwnBase):
    pass


class ElsewhereAdmin(StatorModelAdmin):
    fields = ("ready", "failure_traceback")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using("other")


class OtherRecords(FailureRecordAdmin):
    using = "other"


class TenantAdmin(StatorModelAdmin):
    """Who visits it sees the rows of his own session only."""

    state_action_limit = 1

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(owner=request.user.get_username())


class AccountAdmin(StatorModelAdmin):
    search_fields = ("id__exact",)


class ReadOnly(StatorModelAdmin):
    state_read_only = True


class PartAdmin(StatorModelAdmin):
    """Of each model a part of the rows."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        part = {"balance__gt": 0} if self.model is Account else {"ready": True}
        return super().get_queryset(request).filter(**part)


lives = admin.AdminSite(name="lives")
lives.register([BasicModel, Delivery, Purchase, TextKey], StatorModelAdmin)
lives.register(Account, AccountAdmin)
lives.register(Order, OrderAdmin)
lives.register(Event, EventAdmin)
lives.register(FailureRecord, FailureRecordAdmin)
lives.register(StatorLog, StatorLogAdmin)
lives.register(TransitionRecord, TransitionRecordAdmin)
lives.register(Worker, WorkerAdmin)
lives.register(BulkAction, BulkActionAdmin)

elsewhere = admin.AdminSite(name="elsewhere")
elsewhere.register(BasicModel, ElsewhereAdmin)
elsewhere.register(FailureRecord, OtherRecords)


class OtherBulkActions(BulkActionAdmin):
    using = "other"


elsewhere.register(BulkAction, OtherBulkActions)

# Rows of another database, records of the default one.
mixed = admin.AdminSite(name="mixed")
mixed.register(BasicModel, ElsewhereAdmin)
mixed.register(FailureRecord, FailureRecordAdmin)
mixed.register(Worker, WorkerAdmin)

shown = admin.AdminSite(name="shown")
shown.register(BasicModel, ReadOnly)

part = admin.AdminSite(name="part")
part.register([Account, BasicModel], PartAdmin)


class ReadOnlyBulkActions(BulkActionAdmin):
    state_read_only = True


shown.register(BulkAction, ReadOnlyBulkActions)

tenants = admin.AdminSite(name="tenants")
tenants.register(Purchase, TenantAdmin)
tenants.register(BulkAction, BulkActionAdmin)

# No page for failure records.
bare = admin.AdminSite(name="bare")
bare.register([BasicModel, Noop], StatorModelAdmin)

# Rows under every sort of limit.
limited = admin.AdminSite(name="limited")
limited.register(Parcel, StatorModelAdmin)
limited.register(Worker, WorkerAdmin)

# Every kind of model that the admin takes.
kinds = admin.AdminSite(name="kinds")
kinds.register([ParentKind, ChildKind, LabelledKind, InvoiceKind, ProxyKind], StatorModelAdmin)
kinds.register(FailureRecord, FailureRecordAdmin)

# Of a model only a proxy.
proxies = admin.AdminSite(name="proxies")
proxies.register(ProxyKind, StatorModelAdmin)
proxies.register(FailureRecord, FailureRecordAdmin)
proxies.register(Worker, WorkerAdmin)

urlpatterns = [
    path("admin/", admin.site.urls),
    *(
        path(f"{site.name}/", site.urls)
        for site in (lives, elsewhere, mixed, bare, limited, kinds, part, proxies, shown, tenants)
    ),
]
