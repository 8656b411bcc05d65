"""The operators' verbs for the rows that are selected in a list, or for all that match it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_fsmworker.admin.formatting import reason_of
from django_fsmworker.admin.row_page import RowPagePart
from django_fsmworker.admin.row_verbs import OPERATIONS
from django_fsmworker.models.operating import number_of, operate


class SelectionActions(RowPagePart):
    """Actions of the list; each first says to how many rows it applies, and asks for a reason."""

    state_action_limit = 10_000
    """The most rows that one action takes: it is done within the request."""

    actions: Any = ("state_retry_rows", "state_park_rows", "state_unpark_rows", "state_cancel_rows")

    @admin.action(description=_("Retry now"), permissions=["state_retry"])
    def state_retry_rows(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Make the rows due now."""
        return self._state_selected(request, queryset, "retry")

    @admin.action(description=_("Park"), permissions=["state_park"])
    def state_park_rows(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Keep the rows from being run."""
        return self._state_selected(request, queryset, "park")

    @admin.action(description=_("Unpark"), permissions=["state_unpark"])
    def state_unpark_rows(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Make parked rows due again."""
        return self._state_selected(request, queryset, "unpark")

    @admin.action(description=_("Cancel what runs"), permissions=["state_cancel"])
    def state_cancel_rows(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """End the checks that run on the rows."""
        return self._state_selected(request, queryset, "cancel")

    def has_state_retry_permission(self, request: HttpRequest) -> bool:
        """Whether the list offers to retry rows."""
        return self.has_state_permission(request, "retry")

    def has_state_park_permission(self, request: HttpRequest) -> bool:
        """Whether the list offers to park rows."""
        return self.has_state_permission(request, "park")

    def has_state_unpark_permission(self, request: HttpRequest) -> bool:
        """Whether the list offers to unpark rows."""
        return self.has_state_permission(request, "unpark")

    def has_state_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether the list offers to cancel what runs."""
        return self.has_state_permission(request, "cancel")

    def _state_selected(
        self, request: HttpRequest, queryset: QuerySet[Any], name: str
    ) -> HttpResponse | None:
        """The page that asks; once that is confirmed None, so that Django shows the list."""
        matched = queryset.order_by()[: self.state_action_limit + 1].count()
        if matched > self.state_action_limit:
            said = gettext(
                "More than %(limit)d rows match, which is more than one request does. Choose fewer "
                "with the filters, or use manage.py stator."
            )
            messages.error(request, said % {"limit": self.state_action_limit})
            return None
        reason = reason_of(request)
        if "confirmed" not in request.POST:
            return self._state_preview(request, queryset, name, matched)
        if name == "park" and not reason:
            said = gettext("Give a reason to park them for: it is put on record.")
            messages.error(request, said)
            return self._state_preview(request, queryset, name, matched)
        operation = OPERATIONS[name][0](self.model, request.user, reason)
        done = operate(operation, queryset)
        self._state_say(request, name, done, matched - done)
        return None

    def _state_say(self, request: HttpRequest, name: str, done: int, left: int) -> None:
        said = ngettext(
            "%(verb)s: %(count)d row was written, %(left)d left out.",
            "%(verb)s: %(count)d rows were written, %(left)d left out.",
            done,
        )
        level = messages.SUCCESS if done else messages.WARNING
        verb = OPERATIONS[name][1]
        self.message_user(request, said % {"verb": verb, "count": done, "left": left}, level)

    def _state_preview(
        self, request: HttpRequest, queryset: QuerySet[Any], name: str, matched: int
    ) -> HttpResponse:
        kind, label, why = OPERATIONS[name]
        number = number_of(kind(self.model), queryset)
        question = ngettext(
            "It applies to %(count)d of the %(matched)d rows chosen.",
            "It applies to %(count)d of the %(matched)d rows chosen.",
            number,
        ) % {"count": number, "matched": matched}
        if number < matched:
            question += " " + gettext(
                "The others are left out, since it cannot be done in their state, or: %(why)s"
            ) % {"why": why}
        kept = [("action", f"state_{name}_rows")]
        kept += [("select_across", request.POST.get("select_across", "0"))]
        kept += [(ACTION_CHECKBOX_NAME, key) for key in request.POST.getlist(ACTION_CHECKBOX_NAME)]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": label,
            "question": question,
            "kept": kept,
            "label": label,
            "reason": request.POST.get("reason", ""),
            "back": request.get_full_path(),
        }
        return render(request, "django_fsmworker/admin/ask.html", context)
