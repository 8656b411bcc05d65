"""Durable events in the admin: what waits, what became of the others, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_fsmworker.admin.columns import COLUMNS, StateColumns
from django_fsmworker.admin.filters import LabelledFilter, ModelFilter, StateFilter
from django_fsmworker.admin.read_only import may
from django_fsmworker.admin.records import LinkedRecordAdmin, context_of
from django_fsmworker.admin.row_failure import LINES, TRACEBACK, RowFailureLines
from django_fsmworker.admin.row_page import RowPagePart
from django_fsmworker.events import cancel_event, retry_event
from django_fsmworker.models import Event
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.event import hash_of

MOST_AT_ONCE = 1000
"""The most events that one action takes: it is done within the request."""


class EventModelFilter(ModelFilter):
    """Events by the model of their rows, of those whose graphs declare any."""

    def labels(self, model: Any) -> list[tuple[str, Any]]:
        found = [each for each in stator_models() if each.state_graph.triggers]
        return [(each._meta.label, each._meta.label) for each in found]


class TriggerFilter(LabelledFilter):
    """Events by their names; those that some graph declares are offered."""

    title = _("trigger")
    parameter_name = "trigger"

    def labels(self, model: Any) -> list[tuple[str, Any]]:
        names = {name for each in stator_models() for name in each.state_graph.triggers}
        return [(name, name) for name in sorted(names)]


@admin.register(Event)
class EventAdmin(StateColumns, RowPagePart, RowFailureLines, LinkedRecordAdmin):
    """Events, those submitted last first; on top of the page of one, what it waits for.

    To see them takes the permission to view events, to cancel and to retry them one each. Nobody
    adds, changes or deletes one: later events may wait for it, so it is cancelled instead.
    """

    state_read_only = True
    redacted_fields: ClassVar[dict[str, str]] = {"reason": "reason"}
    list_display = (
        "trigger", "model", "linked_row", "shown_state", "shown_due", "shown_failures", "fires_at",
        "by", "reason",
    )  # fmt: skip
    list_filter = (StateFilter, EventModelFilter, TriggerFilter)
    search_fields = ("row",)
    search_help_text = _("A row's primary key.")
    ordering = ("-pk",)
    actions: Any = ("cancel_events", "retry_events")
    readonly_fields: ClassVar[tuple[str, ...]] = (
        "linked_row", "shown_context", *COLUMNS, *LINES, TRACEBACK,
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("trigger", "model", "linked_row", "shown_context", "by", "reason")}),
        (_("Times"), {"fields": ("submitted", "fires_at", "expires_at", "shown_due")}),
        (_("Attempts"), {"fields": ("shown_failures", "max_attempts", "idempotency_key")}),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_cancel_event_permission(self, request: HttpRequest) -> bool:
        """Whether this user may cancel events."""
        return may(request, "django_fsmworker.cancel_event")

    def has_retry_event_permission(self, request: HttpRequest) -> bool:
        """Whether this user may have events tried again."""
        return may(request, "django_fsmworker.retry_event")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """The fieldsets of the class, then those of the event's failure, if it has one."""
        own: Any = super().get_fieldsets(request, obj)
        return [*own, *self._state_failure_fieldsets(obj)]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The events of the rows with that key, by what they are found by."""
        if search_term:
            key = int(search_term) if search_term.lstrip("-").isdecimal() else search_term
            queryset = queryset.filter(row_hash=hash_of(search_term, key), row=search_term)
        return queryset, False

    @admin.display(description=_("context"))
    def shown_context(self, event: Event) -> str:
        """What was sent with it, as JSON."""
        return context_of(event)

    @admin.action(description=_("Cancel events that wait"), permissions=["cancel_event"])
    def cancel_events(self, request: HttpRequest, queryset: QuerySet[Event]) -> None:
        """Cancel those selected that have not come to an end."""
        by = gettext("Cancelled by %(user)s") % {"user": request.user.get_username()}

        def cancel(event: Event) -> bool:
            return cancel_event(event.pk, reason=by, using=queryset.db)

        self._do(request, queryset, cancel)

    @admin.action(description=_("Try events again now"), permissions=["retry_event"])
    def retry_events(self, request: HttpRequest, queryset: QuerySet[Event]) -> None:
        """Try those selected that wait, have failed, or were discarded or cancelled."""

        def retry(event: Event) -> bool:
            return retry_event(event.pk, by=request.user, using=queryset.db)

        self._do(request, queryset, retry)

    def _do(
        self, request: HttpRequest, queryset: QuerySet[Event], verb: Callable[[Event], bool]
    ) -> None:
        """Call ``verb`` for each event in the order of delivery, and say for how many it worked."""
        chosen = list(queryset.order_by("fires_at", "pk")[: MOST_AT_ONCE + 1])
        if len(chosen) > MOST_AT_ONCE:
            said = gettext("More than %(limit)d events are chosen; choose fewer with the filters.")
            self.message_user(request, said % {"limit": MOST_AT_ONCE}, messages.ERROR)
            return
        done = [event for event in chosen if verb(event)]
        for event in done:
            self.log_change(request, event, request.POST["action"])
        said = ngettext(
            "%(count)d event was written, %(left)d left out.",
            "%(count)d events were written, %(left)d left out.",
            len(done),
        )
        level = messages.SUCCESS if done else messages.WARNING
        left = len(chosen) - len(done)
        self.message_user(request, said % {"count": len(done), "left": left}, level)
