"""The admin of a model with a life."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.utils import flatten, flatten_fieldsets
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_fsmworker.admin.columns import COLUMNS, StateColumns
from django_fsmworker.admin.filters import DueFilter, StateFilter
from django_fsmworker.admin.row_failure import LINES, TRACEBACK, RowFailureLines
from django_fsmworker.admin.typed import ModelAdmin
from django_fsmworker.models.saving import present_columns

FILTERS: dict[Any, str] = {StateFilter: "state", DueFilter: "state_next"}
LIFE = (
    "shown_state",
    ("shown_age", "state_changed"),
    ("shown_due", "state_next", "state_lease"),
    "shown_failures",
)
SHOWN = (*COLUMNS, *LINES, TRACEBACK)


class StatorModelAdminMixin(StateColumns, RowFailureLines):
    """Put it before another base: ``class OrderAdmin(StatorModelAdminMixin, ImportExportAdmin)``.

    The list gets the columns of ``StateColumns`` after your own and two filters before your own; a
    row's page gets its life and its failure record after your own fields. What you name yourself in
    ``list_display``, ``list_filter``, ``fields`` or ``fieldsets`` stays where you put it. The
    engine's columns are read-only everywhere.
    """

    # The count of all rows beside the search box is slow on a large table.
    show_full_result_count = False

    def get_list_display(self, request: HttpRequest) -> Any:
        """Yours, then the columns of a life."""
        own = super().get_list_display(request)
        return [*own, *_unnamed(COLUMNS, own)]

    def get_list_filter(self, request: HttpRequest) -> Any:
        """By state and by due time, then yours."""
        own: Any = super().get_list_filter(request)
        named = [each[0] if isinstance(each, tuple | list) else each for each in own]
        return [*_unnamed(FILTERS, named), *own]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Yours and all that the engine writes."""
        own = super().get_readonly_fields(request, obj)
        return list(dict.fromkeys([*own, *self._state_fields()]))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Yours; without any, all but the engine's, which get a place of their own."""
        fields = super().get_fields(request, obj)
        return fields if self.fields else [*_without(fields, self._state_fields())]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Yours; on a row that exists its life and its failure come after them."""
        own: Any = super().get_fieldsets(request, obj)
        if obj is None:
            return own
        named = flatten_fieldsets(own)
        added = [(_("Life"), {"fields": LIFE}), *self._state_failure_fieldsets(obj)]
        for _title, options in added:
            options["fields"] = tuple(_without(options["fields"], named))
        return [*own, *(each for each in added if each[1]["fields"])]

    def _state_fields(self) -> list[str]:
        return [*present_columns(self.model), *SHOWN]


class StatorModelAdmin(StatorModelAdminMixin, ModelAdmin):
    """The admin of a model with a life, ready to register or to derive from."""


def _unnamed(ours: dict[Any, str], named: Iterable[Any]) -> list[Any]:
    """Those of ours of which neither the name nor the field is among the user's own."""
    taken = list(named)
    return [each for each, field in ours.items() if each not in taken and field not in taken]


def _without(lines: Iterable[Any], named: Iterable[str]) -> Iterable[Any]:
    """The lines of a fieldset, each a name or a tuple of names, without the names given."""
    taken = set(named)
    for line in lines:
        kept = tuple(name for name in flatten([line]) if name not in taken)
        if kept:
            yield kept if len(kept) > 1 else kept[0]
