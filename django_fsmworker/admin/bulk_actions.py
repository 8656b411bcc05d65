"""Bulk actions in the admin: how far they are, what was left out, to stop and to resume them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_fsmworker.admin.columns import StateColumns
from django_fsmworker.admin.filters import ModelFilter, StateFilter
from django_fsmworker.admin.formatting import ago, change_url, model_of, reason_of
from django_fsmworker.admin.read_only import may
from django_fsmworker.admin.records import RecordAdmin, context_of
from django_fsmworker.admin.redaction import redacted, redacted_reasons, redactor
from django_fsmworker.bulk.starting import RESUMED_FROM, STOPPED_FROM, resume, stop
from django_fsmworker.bulk.verbs import LABELS, WHY
from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.models import BulkAction

ORDERS = {
    "stop": (stop, STOPPED_FROM, _("Stop")),
    "resume": (resume, RESUMED_FROM, _("Resume")),
}
REFRESH = 5
RUN = "django_fsmworker.run_bulkaction"


@dataclass(frozen=True, slots=True)
class Skip:
    """Rows that were left out for one reason, and the first of them with their pages."""

    why: Any
    number: int
    examples: list[tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class BulkPanel:
    """What the template shows on top of the page of a bulk action."""

    action: BulkAction
    label: Any
    seen: int
    percent: int | None
    reasons: tuple[Any, ...]
    failure: str
    skips: list[Skip]
    orders: list[tuple[Any, str]]
    refresh: int | None


@admin.register(BulkAction)
class BulkActionAdmin(StateColumns, RecordAdmin):
    """Bulk actions, the latest first.

    Who may view bulk actions sees all; who may only run them (``run_bulkaction``) sees those that
    he has started. To stop and to resume takes the permission to run them.
    """

    state_read_only = False
    """Whether these pages only show: no buttons, and 403 for who posts all the same."""

    list_display = (
        "shown_started", "verb", "subject", "shown_state", "shown_progress", "model", "by",
    )  # fmt: skip
    list_filter = (StateFilter, ModelFilter)
    redacted_fields: ClassVar[dict[str, str]] = {"reason": "reason", "described": "context"}
    readonly_fields = ("shown_context",)
    ordering = ("-pk",)
    fieldsets = (
        (None, {"fields": ("model", "verb", "subject", "shown_context", "described")}),
        (_("Why"), {"fields": ("by", "reason", "started")}),
    )

    def get_urls(self) -> list[Any]:
        """Django's addresses, and before them that of orders."""
        view = self.admin_site.admin_view(self.order_view)
        name = "django_fsmworker_bulkaction_order"
        return [path("<path:object_id>/state/<str:order>/", view, name=name), *super().get_urls()]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether this user may see bulk actions: all of them, or his own."""
        return super().has_view_permission(request, obj) or self._may_run(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """All, or those that this user has started."""
        actions = super().get_queryset(request)
        if super().has_view_permission(request):
            return actions
        return actions.filter(by_pk=str(request.user.pk))

    @admin.display(description=_("started"), ordering="started")
    def shown_started(self, action: BulkAction) -> str:
        """How long ago that was."""
        return ago(action.started)

    @admin.display(description=_("context"))
    def shown_context(self, action: BulkAction) -> str:
        """What is sent with the event, as JSON."""
        return context_of(action)

    @admin.display(description=_("progress"))
    def shown_progress(self, action: BulkAction) -> str:
        """How many of the rows were looked at."""
        return progress_of(action)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Django's page, with progress and buttons on top of its content."""
        response: Any = super().render_change_form(request, context, *args, **kwargs)
        action = context.get("original")
        if action is not None:
            template = response.resolve_template(response.template_name)
            response.context_data["state_base_template"] = template
            response.context_data["state_panel"] = self._panel(request, action)
            response.template_name = "django_fsmworker/admin/bulk.html"
        return response

    def order_view(self, request: HttpRequest, object_id: str, order: str) -> HttpResponse:
        """Stop or resume one, and go back to its page."""
        if order not in ORDERS or not self._may_order(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        action: Any = self.get_object(request, unquote(object_id))
        if action is None:
            return self._get_obj_does_not_exist_redirect(  # type: ignore[no-any-return, attr-defined]
                request, self.opts, object_id
            )
        try:
            ORDERS[order][0](action, by=request.user, reason=reason_of(request))
        except NotAllowed as refused:
            messages.error(request, refused.user_message)
        except BulkAction.DoesNotExist:
            messages.error(request, gettext("The row is gone."))
        else:
            self.log_change(request, action, order)
            said = gettext("Done: %(what)s.")
            messages.success(request, said % {"what": ORDERS[order][2]})
        page = bulk_action_url(self.admin_site, request, action)
        return HttpResponseRedirect(page or "../../")

    def _may_run(self, request: HttpRequest) -> bool:
        return request.user.has_perm(RUN)

    def _may_order(self, request: HttpRequest) -> bool:
        return not self.state_read_only and may(request, RUN)

    def _panel(self, request: HttpRequest, action: BulkAction) -> BulkPanel:
        goes_on = action.state in STOPPED_FROM
        seen = action.done + action.left_out
        failure = action.failure if action.state == "failed" else None
        said = action.note or (failure.message if failure else "")
        return BulkPanel(
            action,
            LABELS.get(action.verb, action.verb),
            seen,
            _percent(seen, action.matched),
            redacted_reasons(action.state_explain().reasons, action) if goes_on else (),
            redacted("message", said, failure or action),
            self._skips(request, action),
            self._orders(request, action),
            REFRESH if goes_on and "refresh" in request.GET else None,
        )

    def _skips(self, request: HttpRequest, action: BulkAction) -> list[Skip]:
        model, redact = model_of(action.listed), redactor()
        return [
            Skip(
                WHY.get(why, why),
                number,
                [
                    (
                        redact("label", str(row), action),
                        model and change_url(self.admin_site, request, model, row),
                    )
                    for row in examples
                ],
            )
            for why, (number, examples) in action.skipped.items()
        ]

    def _orders(self, request: HttpRequest, action: BulkAction) -> list[tuple[Any, str]]:
        if not self._may_order(request):
            return []
        name = "admin:django_fsmworker_bulkaction_order"
        site = self.admin_site.name
        return [
            (label, reverse(name, args=[quote(action.pk), order], current_app=site))
            for order, (_act, states, label) in ORDERS.items()
            if action.state in states
        ]


def bulk_action_url(site: AdminSite, request: HttpRequest, action: BulkAction) -> str | None:
    """The page of one in ``site``; None if there is none, as for one of another database."""
    page = change_url(site, request, BulkAction, action.pk)
    if page is None:
        return None
    shown: str = site.get_model_admin(BulkAction).get_queryset(request).db
    return page if shown == action._state.db else None


def progress_of(action: BulkAction) -> str:
    """How many of the rows were looked at; the number of all is one of the start."""
    seen = action.done + action.left_out
    if action.matched is None:
        return str(seen)
    return gettext("%(seen)d of %(matched)d") % {"seen": seen, "matched": action.matched}


def _percent(seen: int, matched: int | None) -> int | None:
    return None if not matched else min(100, 100 * seen // matched)
