"""Workers in the admin: their records, orders to them, and the dashboard above."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_fsmworker import workers
from django_fsmworker.admin.dashboard import (
    FailureGroup,
    back_url,
    bulk_actions,
    dashboard_url,
    failure_groups,
    model_parts,
    pause_line,
    worker_lines,
)
from django_fsmworker.admin.failure_verbs import FailureVerbs
from django_fsmworker.admin.formatting import ago, folded, posted, reason_of
from django_fsmworker.admin.limit_lines import limit_lines
from django_fsmworker.admin.pause_verbs import PauseVerbs
from django_fsmworker.admin.reach import Reach
from django_fsmworker.admin.read_only import may
from django_fsmworker.admin.records import RecordAdmin
from django_fsmworker.admin.refreshing import refresh_context
from django_fsmworker.admin.trouble import trouble
from django_fsmworker.bulk.verbs import LABELS
from django_fsmworker.exceptions import WorkerUnavailable
from django_fsmworker.models import Worker

ORDERS = {"suspend": _("Suspend"), "resume": _("Resume"), "stop": _("Stop")}


@admin.register(Worker)
class WorkerAdmin(FailureVerbs, PauseVerbs, RecordAdmin):
    """Records of runners. The address without a filter leads to the dashboard.

    To see either takes the permission to view workers, to give orders that to change them.
    """

    list_display = ("shown_id", "status", "shown_heartbeat", "in_flight", "host", "pid")
    list_filter = ("status", "host")
    search_fields = ("id", "name", "host")
    redacted_fields: ClassVar[dict[str, str]] = {"order_reason": "reason", "stacks": "traceback"}
    ordering = ("-heartbeat",)

    @admin.display(description=_("worker"), ordering="id")
    def shown_id(self, worker: Worker) -> str:
        """Its id, in lines where it is long."""
        return folded(worker.id)

    @admin.display(description=_("heartbeat"), ordering="heartbeat")
    def shown_heartbeat(self, worker: Worker) -> str:
        """How long ago the last sign of life was."""
        return ago(worker.heartbeat)

    def get_urls(self) -> list[Any]:
        """Django's addresses, and before them the dashboard's and that of orders."""
        view = self.admin_site.admin_view
        return [
            path("stator/", view(self.dashboard_view), name="django_fsmworker_dashboard"),
            path("stator/<str:order>/", view(self.order_view), name="django_fsmworker_order"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list of all records; the dashboard, unless something is asked of the list."""
        if not request.GET and request.method == "GET" and self.has_view_permission(request):
            return HttpResponseRedirect(self._dashboard)
        return super().changelist_view(request, extra_context)

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """Models, workers, failures and pauses, on one page that needs no script."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        reach = Reach()
        databases = reach.of(self.databases_of(request))
        lines = worker_lines(databases, self._may_order(request))
        living = [each.worker for each in lines if each.worker.is_living]
        may_see_failures = request.user.has_perm("django_fsmworker.view_failurerecord")
        parts = list(model_parts(self.admin_site, request, living, reach))
        pauses = self.shown_pauses(databases)
        failures = self._failures(request, databases) if may_see_failures else []
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": gettext("Dashboard"),
            "media": self.media,
            "parts": parts,
            "trouble": list(trouble(reach.away, parts, lines, pauses)),
            "workers": lines,
            "orders": ORDERS,
            "may_order": any(each.orders for each in lines),
            "failures": failures,
            "labels": LABELS,
            "may_act": any(each.verbs for each in failures),
            "pauses": [pause_line(each) for each in pauses],
            "may_lift": self.may_lift(request),
            "may_pause": self.may_pause(request),
            "limits": limit_lines(self.admin_site, request, pauses, reach),
            "bulk_actions": bulk_actions(self.admin_site, request, databases),
            **refresh_context(request),
            "order_url": self._dashboard,
            "records_url": f"{self._records}?o=-3",
        }
        return render(request, "django_fsmworker/admin/dashboard.html", context)

    def order_view(self, request: HttpRequest, order: str) -> HttpResponse:
        """Give a worker an order, and go back to the dashboard."""
        if order not in ORDERS or not self._may_order(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        name = posted(request, "worker")
        by = request.user.get_username()
        databases = Reach().of(self.databases_of(request))
        try:
            worker = workers.get(name, databases=databases)
            getattr(worker, order)(by=by, reason=reason_of(request))
        except (Worker.DoesNotExist, WorkerUnavailable) as error:
            messages.error(request, str(error))
        else:
            said = gettext("%(worker)s has been told: %(order)s.")
            messages.success(request, said % {"worker": name, "order": ORDERS[order]})
        return HttpResponseRedirect(back_url(self.admin_site, request))

    def _failures(self, request: HttpRequest, databases: list[str]) -> list[FailureGroup]:
        def verbs(label: str, alias: str) -> tuple[str, ...]:
            return self.group_verbs(request, label, alias)

        return failure_groups(self.admin_site, request, databases, verbs)

    def _may_order(self, request: HttpRequest) -> bool:
        return may(request, "django_fsmworker.change_worker")

    @property
    def _dashboard(self) -> str:
        return dashboard_url(self.admin_site)

    @property
    def _records(self) -> str:
        name = "admin:django_fsmworker_worker_changelist"
        return reverse(name, current_app=self.admin_site.name)
