"""The durable events of a row, on the row's own page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.admin import AdminSite
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from django_fsmworker.admin.columns import badge
from django_fsmworker.admin.formatting import change_url, moment
from django_fsmworker.admin.redaction import redactor
from django_fsmworker.models import Event
from django_fsmworker.models.event import named
from django_fsmworker.models.keys import declaring_model, key_of

MOST = 20


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event, in words."""

    trigger: str
    url: str | None
    badge: SafeString
    fires_at: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class RowEvents:
    """The latest events of a row; ``url`` lists all of them, where this site has them."""

    lines: list[EventLine]
    url: str | None


def events_of_row(site: AdminSite, request: HttpRequest, row: Any) -> RowEvents | None:
    """The row's latest events, if this user may see them; no query where its graph has none."""
    model = declaring_model(type(row))
    if not model.state_graph.triggers or not request.user.has_perm("django_fsmworker.view_event"):
        return None
    name, number = named(model, key_of(row))
    events: QuerySet[Event] = QuerySet(Event, using=row._state.db)
    own = events.filter(model=model._meta.label, row_hash=number, row=name)
    found = list(own.defer("context").order_by("-fires_at", "-pk")[:MOST])
    if not found:
        return None
    redact = redactor()
    lines = [
        EventLine(
            event.trigger,
            change_url(site, request, Event, event.pk),
            badge(event),
            moment(event.fires_at),
            event.by,
            redact("reason", event.reason, event),
        )
        for event in found
    ]
    return RowEvents(lines, _list_url(site, {"model": model._meta.label, "q": name}))


def _list_url(site: AdminSite, query: dict[str, str]) -> str | None:
    if not site.is_registered(Event):
        return None
    try:
        address = reverse("admin:django_fsmworker_event_changelist", current_app=site.name)
    except NoReverseMatch:  # a site without addresses
        return None
    return f"{address}?{urlencode(query)}"
