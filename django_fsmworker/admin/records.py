"""Pages of the records that runners write: to read and to delete, never to change."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from django_fsmworker.admin.typed import ModelAdmin


class RecordAdmin(ModelAdmin):
    """Nobody adds or changes a record. To delete one takes Django's permission for it."""

    using: str | None = None
    """The database whose records are shown; None leaves it to the database routers."""
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        records = super().get_queryset(request)
        return records.using(self.using) if self.using else records

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
