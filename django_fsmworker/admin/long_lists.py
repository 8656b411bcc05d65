"""Lists of large tables whose filter or order has no index: a bounded look instead of a long walk.

The rows that an index leads to are shown, else those among the newest rows. Where these may not be
all, the page says so and leads to a look at the whole table. An action on all rows that match is
about all of them, whatever the page shows.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext

from django_fsmworker.admin.columns import COLUMNS
from django_fsmworker.admin.filters import DueFilter, StateFilter
from django_fsmworker.admin.formatting import ModelAdminPart
from django_fsmworker.diagnosis.candidates import MOST, candidates
from django_fsmworker.diagnosis.status import are_many
from django_fsmworker.models.keys import key_name
from django_fsmworker.store import store_for

NEWEST = 100_000
"""The rows, by their keys, that are looked through where no index helps."""
UNKNOWN = "unknown"
WHOLE = "whole"
"""The parameter with which a page is about the whole table, however long that takes."""


class BoundedList(ModelAdminPart):
    """The part of an admin whose list takes no long walk, unless that is asked for."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        """The list of another base, with this look at its rows."""
        base: Any = super().get_changelist(request, **kwargs)
        return _bounded(base)


class BoundedLook:
    """The part of a list that looks at its rows; ``bound`` is a sentence where it is not at all."""

    bound = ""

    def get_filters_params(self: Any, params: Any = None) -> Any:
        """Django's parameters of filters, without ``WHOLE``, which filters nothing."""
        found = super().get_filters_params(params)  # type: ignore[misc]
        found.pop(WHOLE, None)
        return found

    def get_results(self: Any, request: HttpRequest) -> None:
        """Have Django make its results of the rows that are looked at."""
        whole = self.queryset
        self.queryset, self.bound = self._looked_at(request, whole)
        super().get_results(request)  # type: ignore[misc]
        self.queryset = whole

    @property
    def whole_url(self: Any) -> str:
        """The address of this list about the whole table."""
        url: str = self.get_query_string({WHOLE: "1"}, remove=["p"])
        return url

    def _looked_at(self: Any, request: HttpRequest, rows: QuerySet[Any]) -> tuple[Any, str]:
        kind, statistics = _kind(request), store_for(rows.db).statistics
        if WHOLE in request.GET or not (kind or self._is_sorted_by_ours(request)):
            return rows, ""
        every: QuerySet[Any] = QuerySet(rows.model, using=rows.db)
        if not (statistics.tells_costs and are_many(every)):
            return rows, ""
        # What the planner thinks of these conditions is of no use: it takes them for independent.
        found = candidates(self.model, rows.db, kind)
        if found is not None and (found.complete or kind == UNKNOWN):
            rows = _with_state_keys(rows, found.keys)
            return rows, "" if found.complete else gettext("Rows without a due time were left out.")
        if not statistics.is_long_walk(rows[: self.list_per_page]):
            return rows, ""
        if found is None:
            said = gettext(
                "There is no index for this. Only the newest %(number)s rows were looked through."
            )
            return _newest(rows), said % {"number": f"{NEWEST:,}"}
        said = gettext("Many rows may match. At most %(number)s of them were looked for.")
        return _with_state_keys(rows, found.keys), said % {"number": f"{MOST:,}"}

    def _is_sorted_by_ours(self: Any, request: HttpRequest) -> bool:
        """Whether the list is in the order of a column of ours, rather than of its key."""
        columns = [(str(number), name) for number, name in enumerate(self.list_display)]
        named = [each.lstrip("-") for each in request.GET.get("o", "").split(".")]
        return any(each in named and name in COLUMNS for each, name in columns)


@cache
def _bounded(base: Any) -> Any:
    return type(f"Bounded{base.__name__}", (BoundedLook, base), {})


def _kind(request: HttpRequest) -> str:
    """The kind of rows that a filter of ours asks for, of those that are not a state."""
    if request.GET.get(StateFilter.parameter_name) == StateFilter.unknown:
        return UNKNOWN
    return request.GET.get(DueFilter.parameter_name, "")


def _with_state_keys(rows: QuerySet[Any], keys: list[Any]) -> QuerySet[Any]:
    """Those of ``rows`` whose state is in rows with these keys: a child may have a key besides."""
    return rows.filter(**{f"{key_name(rows.model)}__in": keys})


def _newest(rows: QuerySet[Any]) -> QuerySet[Any]:
    """The part of ``rows`` that is among the newest of the table."""
    every: QuerySet[Any] = QuerySet(rows.model, using=rows.db)
    keys = every.order_by("-pk").values_list("pk", flat=True)
    for first in keys[NEWEST - 1 : NEWEST]:
        return rows.filter(pk__gte=first)
    return rows
