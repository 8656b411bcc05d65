"""What can be done on the dashboard to a group of failures: what the list does to rows chosen."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path
from django.utils.translation import gettext

from django_fsmworker.admin.dashboard import back_url, open_failures
from django_fsmworker.admin.formatting import ModelAdminPart, model_of, posted, shown_as, written_in
from django_fsmworker.admin.selection import ChosenRows, SelectionActions
from django_fsmworker.models.failing_rows import rows_of_records

GROUP_VERBS = ("retry", "park")


class FailureVerbs(ModelAdminPart):
    """The addresses of these buttons; each is posted, and takes a permission of its own."""

    def get_urls(self) -> list[Any]:
        """The address of these buttons, and the addresses of the other bases."""
        view = self.admin_site.admin_view
        return [
            path(
                "stator/failures/<str:verb>/",
                view(self.failures_view),
                name="django_fsmworker_failures",
            ),
            *super().get_urls(),
        ]

    def group_verbs(
        self, request: HttpRequest, label: str, database: str | None = None
    ) -> tuple[str, ...]:
        """What this user may do to the failing rows of the model of that label.

        It is nothing in a database whose rows the model's admin does not show.
        """
        model_admin = self._admin_of(label)
        if model_admin is None or database not in (None, written_in(model_admin, request)):
            return ()
        return tuple(
            verb for verb in GROUP_VERBS if model_admin.has_state_permission(request, verb)
        )

    def failures_view(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Say how many rows of the group it is about; once that is confirmed, do it."""
        label = posted(request, "model")
        may_see = request.user.has_perm("django_fsmworker.view_failurerecord")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not may_see or verb not in self.group_verbs(request, label):
            raise PermissionDenied
        model_admin: Any = self._admin_of(label)
        group = self._group(request, model_admin, verb)
        answer: HttpResponse | None = model_admin._state_act_on(request, group, verb)
        return answer or HttpResponseRedirect(back_url(self.admin_site, request))

    def _group(self, request: HttpRequest, model_admin: SelectionActions, verb: str) -> ChosenRows:
        """The rows that fail in one state of a model with one error, as far as it has them."""
        names = {name: posted(request, name) for name in ("model", "state", "error")}
        records = open_failures(written_in(model_admin, request)).filter(**names, went_to="")
        rows = model_admin.get_queryset(request).using(records.db).filter(state=names["state"])
        rows = rows.filter(rows_of_records(rows.model, records))
        if verb == "park":  # those that somebody has parked are not parked again
            rows = rows.exclude(state_next=None, state_failures__lt=0)
        said = gettext("Rows of %(model)s that fail in the state %(state)s with %(error)s.")
        return ChosenRows(
            rows, " ".join(names.values()), [*names.items()], back_url(self.admin_site, request),
            said % names,
        )  # fmt: skip

    def _admin_of(self, label: str) -> SelectionActions | None:
        """The admin of the model of that label, if it has actions for rows."""
        model = shown_as(self.admin_site, model_of(label))
        if model is None:
            return None
        model_admin = self.admin_site.get_model_admin(model)
        return model_admin if isinstance(model_admin, SelectionActions) else None
