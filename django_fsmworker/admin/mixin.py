"""The admin of a model with a life."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.utils import flatten, flatten_fieldsets
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_fsmworker import clock
from django_fsmworker.admin.columns import COLUMNS, StateColumns
from django_fsmworker.admin.filters import DueFilter, StateFilter
from django_fsmworker.admin.formatting import ModelAdmin
from django_fsmworker.admin.graph_page import GraphPagePart
from django_fsmworker.admin.long_lists import BoundedList
from django_fsmworker.admin.paging import BoundedPages
from django_fsmworker.admin.read_only import ReadOnlyMode
from django_fsmworker.admin.row_failure import LINES, TRACEBACK, RowFailureLines
from django_fsmworker.admin.running import note_running
from django_fsmworker.admin.selection import SelectionActions
from django_fsmworker.models.fields import present_columns
from django_fsmworker.models.telling import moved_by

FILTERS: dict[Any, str] = {StateFilter: "state", DueFilter: "state_next"}
LIFE = (
    "shown_state",
    ("shown_age", "state_changed"),
    ("shown_due", "state_next", "state_lease"),
    "shown_failures",
)
SHOWN = (*COLUMNS, *LINES, TRACEBACK)


class StatorModelAdminMixin(
    ReadOnlyMode,
    BoundedPages,
    BoundedList,
    StateColumns,
    GraphPagePart,
    SelectionActions,
    RowFailureLines,
):
    """A mixin for the admin of a model with a life, to be named before any other base.

    As in ``class OrderAdmin(StatorModelAdminMixin, ImportExportAdmin)``. The list gets the columns
    of ``StateColumns`` after your own and two filters before your own; a row's page gets its life
    and its failure record after your own fields, and on top why it is where it is, buttons for what
    can be done to it now, and the way that it took, which is drawn, too. The list leads to a page
    with the graph and what the rows do on it. What you name yourself in ``list_display``,
    ``list_filter``, ``fields`` or ``fieldsets`` stays where you put it. The engine's columns are
    read-only everywhere.
    """

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Django's list, whose rows know for how long they run."""
        changelist: Any = super().get_changelist_instance(request)
        if request.method == "GET":
            note_running(changelist.result_list, changelist.queryset.db, clock.now())
        return changelist

    def get_list_display(self, request: HttpRequest) -> Any:
        """The columns named by the class, then those of ``StateColumns``."""
        own = super().get_list_display(request)
        return [*own, *_unnamed(COLUMNS, own)]

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Filters by state and by due time, then those named by the class."""
        own: Any = super().get_list_filter(request)
        named = [each[0] if isinstance(each, tuple | list) else each for each in own]
        named += [base for each in named if isinstance(each, type) for base in each.__mro__]
        return [*_unnamed(FILTERS, named), *own]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The fields named by the class and all that the engine writes."""
        own = super().get_readonly_fields(request, obj)
        return list(dict.fromkeys([*own, *self._state_fields()]))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The fields named by the class; if it names none, all but the engine's."""
        fields = super().get_fields(request, obj)
        return fields if self.fields else [*_without(fields, self._state_fields())]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """The fieldsets of the class; on the page of an existing row, life and failure follow."""
        own: Any = super().get_fieldsets(request, obj)
        if obj is None:
            return own
        named = flatten_fieldsets(own)
        added = [(_("Life"), {"fields": LIFE}), *self._state_failure_fieldsets(obj)]
        for _title, options in added:
            options["fields"] = tuple(_without(options["fields"], named))
        return [*own, *(each for each in added if each[1]["fields"])]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save as Django does; what that moves is moved by the user."""
        with moved_by(request.user):
            super().save_model(request, obj, form, change)

    def _state_fields(self) -> list[str]:
        return [*present_columns(self.model), *SHOWN]


class StatorModelAdmin(StatorModelAdminMixin, ModelAdmin):
    """The admin of a model with a life, to be registered or derived from as it is.

    See ``StatorModelAdminMixin`` for what it adds to Django's ``ModelAdmin``.
    """


def _unnamed(ours: dict[Any, str], named: Iterable[Any]) -> list[Any]:
    """The keys of ``ours`` of which neither the name nor the field is in ``named``."""
    taken = list(named)
    return [each for each, field in ours.items() if each not in taken and field not in taken]


def _without(lines: Iterable[Any], named: Iterable[str]) -> Iterable[Any]:
    """The lines of a fieldset, each a name or a tuple of names, without the names given."""
    taken = set(named)
    for line in lines:
        kept = tuple(name for name in flatten([line]) if name not in taken)
        if kept:
            yield kept if len(kept) > 1 else kept[0]
