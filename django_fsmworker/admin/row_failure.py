"""Why a row is failing, on the row's own page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_fsmworker.admin.formatting import ModelAdminPart, change_url, may_see_tracebacks, moment
from django_fsmworker.admin.redaction import redacted
from django_fsmworker.models import FailureRecord
from django_fsmworker.models.keys import key_of, records_of

LINES = ("failure_error", "failure_message", "failure_seen", "failure_worker")
TRACEBACK = "failure_traceback"


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A row's failure record and what the user may see of it."""

    record: FailureRecord
    url: str | None
    traceback: str


class RowFailureLines(ModelAdminPart):
    """Read-only lines about a row's failure, for the row's page.

    They are empty for a row that ``get_object`` did not load: no traceback is shown to somebody
    whose permission was not checked.
    """

    def get_object(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """The row, with what this user may see of its failure."""
        row: Any = super().get_object(request, object_id, *args, **kwargs)
        if row is not None:
            row._state_failure = self._state_failure_of(request, row)
        return row

    def _state_failure_of(self, request: HttpRequest, row: Any) -> RowFailure | None:
        records = FailureRecord.objects.using(row._state.db)
        record = records.filter(**records_of(type(row), [key_of(row)])).first()
        if record is None:
            return None
        traceback = record.traceback if may_see_tracebacks(request) else ""
        return RowFailure(record, self._state_failure_url(request, record), traceback)

    def _state_failure_url(self, request: HttpRequest, record: FailureRecord) -> str | None:
        url = change_url(self.admin_site, request, FailureRecord, record.pk)
        if url is None:
            return None
        # In another database the same key is another record.
        listed = self.admin_site.get_model_admin(FailureRecord).get_queryset(request)
        return url if listed.db == record._state.db else None

    def _state_failure_fieldsets(self, row: Any) -> list[tuple[Any, dict[str, Any]]]:
        failure = shown_failure(row)
        fieldsets: list[tuple[Any, dict[str, Any]]] = []
        if failure is not None:
            is_open = failure.record.resolved is None
            title = _("Failure") if is_open else _("Earlier failure")
            fieldsets.append((title, {"fields": LINES}))
        if failure is not None and failure.traceback:
            options = {"fields": (TRACEBACK,), "classes": ("collapse",)}
            fieldsets.append((_("Traceback"), options))
        return fieldsets

    @admin.display(description=_("error"))
    def failure_error(self, row: Any) -> str:
        """The exception's type, linked to the failure record."""
        failure = shown_failure(row)
        if failure is None or failure.url is None:
            return self._state_failure_text(row, "error")
        return format_html('<a href="{}">{}</a>', failure.url, failure.record.error)

    @admin.display(description=_("message"))
    def failure_message(self, row: Any) -> str:
        """The exception's message."""
        failure = shown_failure(row)
        text = redacted("message", failure.record.message, failure.record) if failure else ""
        return text or self.get_empty_value_display()

    @admin.display(description=_("seen"))
    def failure_seen(self, row: Any) -> str:
        """How often the row failed, and when."""
        failure = shown_failure(row)
        return seen(failure.record) if failure else self.get_empty_value_display()

    @admin.display(description=_("worker"))
    def failure_worker(self, row: Any) -> str:
        """The runner that saw the failure last."""
        return self._state_failure_text(row, "worker")

    @admin.display(description=_("traceback"))
    def failure_traceback(self, row: Any) -> str:
        """The traceback, for those who may see it."""
        failure = shown_failure(row)
        if failure is None or not failure.traceback:
            return self.get_empty_value_display()
        return format_html(
            "<pre>{}</pre>", redacted("traceback", failure.traceback, failure.record)
        )

    def _state_failure_text(self, row: Any, field: str) -> str:
        failure = shown_failure(row)
        text = getattr(failure.record, field) if failure else ""
        return text or self.get_empty_value_display()


def shown_failure(row: Any) -> RowFailure | None:
    """The failure that ``get_object`` found for ``row``."""
    failure: RowFailure | None = getattr(row, "_state_failure", None)
    return failure


def seen(record: FailureRecord) -> str:
    """How often and when: ``3 times, from … to …; resolved …; 5 times before``."""
    return "; ".join(filter(None, (_now(record), _resolved(record), _before(record))))


def _now(record: FailureRecord) -> str:
    if not record.count:
        when = moment(record.parked or record.last_seen)
        return gettext("no failure; parked %(when)s") % {"when": when}
    words = ngettext("once, %(last)s", "%(count)d times, from %(first)s to %(last)s", record.count)
    return words % {
        "count": record.count,
        "first": moment(record.first_seen),
        "last": moment(record.last_seen),
    }


def _resolved(record: FailureRecord) -> str:
    if record.resolved is None:
        return ""
    return gettext("resolved %(when)s") % {"when": moment(record.resolved)}


def _before(record: FailureRecord) -> str:
    """The failures before; where the record is resolved, those before its own."""
    count = record.resolved_failures - (record.count if record.resolved else 0)
    if count <= 0:
        return ""
    if record.resolved or record.last_resolved is None:
        words, when = ngettext("%(count)d time before", "%(count)d times before", count), ""
    else:
        when = moment(record.last_resolved)
        words = ngettext(
            "%(count)d time before, resolved %(when)s",
            "%(count)d times before, resolved last %(when)s",
            count,
        )
    return words % {"count": count, "when": when}
