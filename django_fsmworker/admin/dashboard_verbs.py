"""What can be done on the dashboard to a group of failures, and to a pause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.translation import gettext, ngettext

from django_fsmworker.admin.formatting import ModelAdminPart, model_of, reason_of
from django_fsmworker.admin.redaction import redacted
from django_fsmworker.admin.row_page import RowPagePart
from django_fsmworker.admin.row_verbs import OPERATIONS
from django_fsmworker.models import FailureRecord
from django_fsmworker.models.keys import key_from, portions, with_keys
from django_fsmworker.models.operating import BATCH, operate
from django_fsmworker.pauses import lift, paused

GROUP_VERBS = ("retry", "park")
LIFT = "django_fsmworker.change_pause"
"""The permission that lifting a pause takes."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows that fail in one state of a model with one error, as far as this user has them."""

    model_admin: RowPagePart
    state: str
    error: str
    rows: QuerySet[Any]

    def portions(self, verb: str) -> Iterator[QuerySet[Any]]:
        """The rows to which ``verb`` may apply, a batch at a time; no more than one request does.

        Rows that somebody parked are not parked again.
        """
        model = self.rows.model
        records: QuerySet[FailureRecord] = QuerySet(FailureRecord, using=self.rows.db)
        found = records.filter(
            model=model._meta.label, state=self.state, error=self.error, resolved=None, count__gt=0
        )
        # Those that somebody parked come last: the next request is to find others.
        ordered = found.order_by(F("parked").asc(nulls_first=True), "pk")
        names = ordered.values_list("row", flat=True)[: self.limit]
        rows = self.rows.filter(state=self.state)
        if verb == "park":
            rows = rows.exclude(state_next=None, state_failures__lt=0)
        for some in portions(list(_keys(model, names)), BATCH):
            yield rows.filter(with_keys(model, some))

    @property
    def limit(self) -> int:
        """The most rows that one request takes."""
        return int(getattr(self.model_admin, "state_action_limit", 10_000))


class DashboardVerbs(ModelAdminPart):
    """The addresses of these buttons; each is posted, and takes a permission of its own."""

    def get_urls(self) -> list[Any]:
        """Those, and before them the addresses of another base."""
        view = self.admin_site.admin_view
        return [
            path(
                "stator/failures/<str:verb>/",
                view(self.failures_view),
                name="django_fsmworker_failures",
            ),
            path("stator/pauses/lift/", view(self.lift_view), name="django_fsmworker_lift"),
            *super().get_urls(),
        ]

    def group_verbs(self, request: HttpRequest, label: str) -> tuple[str, ...]:
        """What this user may do to the failing rows of the model of that label."""
        model_admin = self._admin_of(label)
        if model_admin is None:
            return ()
        return tuple(
            verb for verb in GROUP_VERBS if model_admin.has_state_permission(request, verb)
        )

    def may_lift(self, request: HttpRequest) -> bool:
        """Whether this user may lift pauses."""
        return request.user.has_perm(LIFT)

    def failures_view(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Say how many rows of the group it is about; once that is confirmed, do it."""
        label = request.POST.get("model", "")
        may_see = request.user.has_perm("django_fsmworker.view_failurerecord")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not may_see or verb not in self.group_verbs(request, label):
            raise PermissionDenied
        group = self._group(request, label)
        if "confirmed" not in request.POST:
            return self._ask_about(request, group, verb)
        if verb == "park" and not reason_of(request):
            messages.error(request, gettext("Give a reason to park them for: it is put on record."))
            return self._ask_about(request, group, verb)
        operation = OPERATIONS[verb][0](group.rows.model, request.user, reason_of(request))
        done = sum(operate(operation, some) for some in group.portions(verb))
        said = ngettext("%(verb)s: %(count)d row.", "%(verb)s: %(count)d rows.", done)
        level = messages.SUCCESS if done else messages.WARNING
        said = said % {"verb": OPERATIONS[verb][1], "count": done}
        messages.add_message(request, level, said)
        return HttpResponseRedirect(self._back)

    def lift_view(self, request: HttpRequest) -> HttpResponse:
        """Lift one pause, and go back to the dashboard."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.may_lift(request):
            raise PermissionDenied
        named = request.POST.get("database", ""), request.POST.get("pause", "")
        found = next((each for each in paused() if (each._state.db, str(each.pk)) == named), None)
        if found is not None and lift(found, by=request.user):
            said = gettext("The pause is lifted: %(what)s.")
            messages.success(request, said % {"what": redacted("label", str(found), found)})
        else:
            messages.warning(request, gettext("This pause is over."))
        return HttpResponseRedirect(self._back)

    def _group(self, request: HttpRequest, label: str) -> Group:
        model_admin: Any = self._admin_of(label)
        rows = model_admin.get_queryset(request)
        return Group(
            model_admin, request.POST.get("state", ""), request.POST.get("error", ""), rows
        )

    def _ask_about(self, request: HttpRequest, group: Group, verb: str) -> HttpResponse:
        label = group.rows.model._meta.label
        number = sum(some.count() for some in group.portions(verb))
        question = ngettext(
            "%(count)d row of %(model)s fails in the state %(state)s with %(error)s.",
            "%(count)d rows of %(model)s fail in the state %(state)s with %(error)s.",
            number,
        ) % {"count": number, "model": label, "state": group.state, "error": group.error}
        if number >= group.limit:
            question += " " + gettext("There may be more, which are for the next time.")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": OPERATIONS[verb][1],
            "question": question,
            "kept": [("model", label), ("state", group.state), ("error", group.error)],
            "label": OPERATIONS[verb][1],
            "reason": request.POST.get("reason", ""),
            "back": self._back,
        }
        return render(request, "django_fsmworker/admin/ask.html", context)

    def _admin_of(self, label: str) -> RowPagePart | None:
        """The admin of the model of that label, if it has buttons for rows."""
        model = model_of(label)
        if model is None or not self.admin_site.is_registered(model):
            return None
        model_admin = self.admin_site.get_model_admin(model)
        return model_admin if isinstance(model_admin, RowPagePart) else None

    @property
    def _back(self) -> str:
        return reverse("admin:django_fsmworker_dashboard", current_app=self.admin_site.name)


def _keys(model: Any, names: QuerySet[Any, Any]) -> Iterator[Any]:
    """The keys that records tell of; those of rows whose key had another type then are left out."""
    for name in names:
        try:
            yield key_from(model, name)
        except (ValueError, ValidationError):
            continue
