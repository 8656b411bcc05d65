"""Pages of lists that may be long: how many there are is counted up to a bound."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest

from django_fsmworker.admin.formatting import ModelAdminPart
from django_fsmworker.diagnosis.status import COUNTED
from django_fsmworker.store import store_for


class Estimate(int):
    """About so many; it shows with a ``~``."""

    def __str__(self) -> str:
        return f"~{int(self):d}"


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to 20,000 rows. Of more it has an estimate of all, and pages of the first 20,000.

    A page far behind costs the database a walk over all before it.
    """

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        number, estimated = store_for(rows.db).statistics.count_up_to(rows, COUNTED)
        return Estimate(number) if estimated else number

    @cached_property
    def num_pages(self) -> int:
        pages = super().num_pages
        return min(pages, max(COUNTED // self.per_page, 1)) if self._is_cut else pages

    @property
    def _is_cut(self) -> bool:
        return isinstance(self.count, Estimate)


class BoundedPages(ModelAdminPart):
    """The part of an admin whose list may be long. A ``paginator`` of your own is kept."""

    # The count of all rows beside the search box is slow on a large table.
    show_full_result_count = False

    def get_paginator(
        self, request: HttpRequest, queryset: Any, per_page: int, *args: Any, **kwargs: Any
    ) -> Any:
        """A paginator that counts up to a bound, unless the class names one."""
        if self.paginator is Paginator:
            return BoundedPaginator(queryset, per_page, *args, **kwargs)
        return super().get_paginator(request, queryset, per_page, *args, **kwargs)
