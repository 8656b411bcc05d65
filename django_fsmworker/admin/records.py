"""Pages of the records that runners write: to read and to delete, never to change."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from django_fsmworker.admin.filters import ModelFilter, ResolvedFilter
from django_fsmworker.admin.formatting import (
    ModelAdmin,
    StyledPart,
    ago,
    change_url,
    folded,
    may_see_tracebacks,
    model_of,
    shown_as,
)
from django_fsmworker.admin.paging import BoundedPages
from django_fsmworker.admin.read_only import ReadOnlyMode
from django_fsmworker.admin.redaction import (
    is_redacting,
    redact_fields,
    redacted,
    redactor,
)
from django_fsmworker.models import FailureRecord, StatorLog, TransitionRecord
from django_fsmworker.models.keys import log_digest


class RecordAdmin(ReadOnlyMode, BoundedPages, StyledPart, ModelAdmin):
    """Nobody adds or changes a record. To delete one takes Django's permission for it."""

    using: str | None = None
    """The database whose records are shown; None leaves it to the database routers."""
    redacted_fields: ClassVar[dict[str, str]] = {}
    """Fields with texts that the setting ``admin_redact`` is asked for, each with its kind."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        records = super().get_queryset(request)
        return records.using(self.using) if self.using else records

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ShownRecords

    def get_search_fields(self, request: HttpRequest) -> Any:
        """The fields of the class that are not redacted: a search would tell their content."""
        own = super().get_search_fields(request)
        return [each for each in own if not self._is_hidden(each)]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Whether the address may filter by this: by a redacted field it would tell its content."""
        return not self._is_hidden(lookup) and super().lookup_allowed(lookup, value, request)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Django's page, of a record whose texts are as they may be shown."""
        response: Any = super().render_change_form(request, context, *args, **kwargs)
        record = context.get("original")
        if record is not None:
            # The page is rendered after this, and nobody saves the record.
            redact_fields(record, self.redacted_fields, redactor())
        return response

    def _is_hidden(self, lookup: str) -> bool:
        return lookup.partition("__")[0] in self.redacted_fields and is_redacting()


class ShownRecords(ChangeList):
    """Records of a page, whose texts are as they may be shown."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        shown: Any = self.model_admin
        redact = redactor()
        for record in self.result_list:
            redact_fields(record, shown.redacted_fields, redact)


@admin.register(StatorLog)
class StatorLogAdmin(RecordAdmin):
    """Stretches of work, the latest first."""

    list_display = ("until", "model", *StatorLog.counted(), "worker")
    list_filter = (ModelFilter, "until")
    search_fields = ("worker",)
    ordering = ("-until", "-pk")


SEEN = (
    "count", "deaths", "first_seen", "last_seen", "resolved", "worker", "resolved_failures",
    "last_resolved",
)  # fmt: skip


class LinkedRecords(ShownRecords):
    """Records of a page, each with the address of its row."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        for record in self.result_list:
            link_row(self.model_admin.admin_site, request, record)


def link_row(site: admin.AdminSite, request: HttpRequest, record: Any) -> None:
    """Note the address of the record's row, if this user may see it. No query is needed."""
    model = shown_as(site, model_of(record.model))
    record.row_url = model and change_url(site, request, model, record.row)


def context_of(record: Any) -> str:
    """The context of an event or of a bulk action, as JSON that may be shown."""
    text = json.dumps(record.context, cls=DjangoJSONEncoder, indent=2, ensure_ascii=False)
    return format_html("<pre>{}</pre>", redacted("context", text, record))


class LinkedRecordAdmin(RecordAdmin):
    """Records of rows, each linked to the page of its row."""

    readonly_fields: ClassVar[tuple[str, ...]] = ("linked_row",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LinkedRecords

    def get_object(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        record: Any = super().get_object(request, object_id, *args, **kwargs)
        if record is not None:
            link_row(self.admin_site, request, record)
        return record

    @admin.display(description=_("row"), ordering="row")
    def linked_row(self, record: Any) -> str:
        """The row's primary key, linked to its page."""
        url, label = getattr(record, "row_url", None), redacted("label", str(record.row), record)
        return format_html('<a href="{}">{}</a>', url, label) if url else label


@admin.register(TransitionRecord)
class TransitionRecordAdmin(LinkedRecordAdmin):
    """The transition log, the latest first."""

    redacted_fields: ClassVar[dict[str, str]] = {"reason": "reason"}

    list_display = ("at", "model", "linked_row", "source", "target", "cause", "by", "reason")
    search_fields = ("row",)
    search_help_text = _("A row's primary key.")
    ordering = ("-pk",)
    fieldsets = (
        (None, {"fields": ("model", "linked_row", "source", "target", "at", "duration")}),
        (_("Why"), {"fields": ("cause", "trigger", "by", "reason", "worker", "attempt")}),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The log of the rows with that key, by its index: the table may be large."""
        if search_term:
            queryset = queryset.filter(digest=log_digest(search_term), row=search_term)
        return queryset, False


@admin.register(FailureRecord)
class FailureRecordAdmin(LinkedRecordAdmin):
    """Failing rows, the latest first."""

    redacted_fields: ClassVar[dict[str, str]] = {"message": "message", "parked_reason": "reason"}
    """Fields with texts that the setting ``admin_redact`` is asked for, each with its kind."""

    list_display = (
        "model", "linked_row", "state", "shown_error", "count", "shown_last_seen", "shown_resolved",
    )  # fmt: skip
    list_display_links = ("shown_error",)
    list_filter = (ModelFilter, ResolvedFilter)
    search_fields = ("=row", "error", "message")
    search_help_text = _("A row's primary key, or part of an error's type or message.")
    ordering = ("-last_seen", "-pk")
    readonly_fields = ("linked_row", "shown_traceback")
    fieldsets = (
        (None, {"fields": ("model", "linked_row", "state", "went_to", "error", "message")}),
        (_("Seen"), {"fields": SEEN}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # A hundred tracebacks can be two megabytes, and the list shows none of them.
        return super().get_queryset(request).defer("traceback")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if not may_see_tracebacks(request):
            return fieldsets
        return (*fieldsets, (_("Traceback"), {"fields": ("shown_traceback",)}))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """A filter in the address must not tell what a hidden traceback contains."""
        if lookup.split("__")[0] == "traceback" and not may_see_tracebacks(request):
            return False
        return super().lookup_allowed(lookup, value, request)

    @admin.display(description=_("error"), ordering="error")
    def shown_error(self, record: FailureRecord) -> str:
        """The exception's type, however long, in a column that leaves room for the others."""
        return folded(record.error)

    @admin.display(description=_("last seen"), ordering="last_seen")
    def shown_last_seen(self, record: FailureRecord) -> str:
        """How long ago that was."""
        return ago(record.last_seen)

    @admin.display(description=_("resolved"), ordering="resolved")
    def shown_resolved(self, record: FailureRecord) -> str | None:
        """How long ago that was, if it was."""
        return None if record.resolved is None else ago(record.resolved)

    @admin.display(description=_("traceback"))
    def shown_traceback(self, record: Any) -> str:
        """The traceback as it was printed."""
        return format_html("<pre>{}</pre>", redacted("traceback", record.traceback, record))
