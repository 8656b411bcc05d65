"""Filters of lists: by state, by due time, by model, by being resolved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_fsmworker.diagnosis.paused import paused_rows
from django_fsmworker.diagnosis.status import Number, are_many, numbers_by_state, total
from django_fsmworker.models import StatorQuerySet
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.functions import DatabaseNow, unleased


class LabelledFilter(SimpleListFilter):
    """The values of one column by their labels; any other value asked for stands for itself."""

    parameter_name: str

    def labels(self, model: Any) -> list[tuple[str, Any]]:
        """The values to choose from, each with its label."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        known, value = self.labels(model_admin.model), self.value()
        return known if value is None or value in dict(known) else [*known, (value, value)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        # No column has that character, and PostgreSQL does not even take it to compare with.
        return queryset.none() if "\0" in value else queryset.filter(**{self.parameter_name: value})


class StateFilter(LabelledFilter):
    """Rows by the label of their state, with how many there are, as in ``paid (12)``.

    It counts up to 20,000 of the rows that the admin's ``get_queryset()`` has, whatever else they
    are filtered by. Of a larger table it shows estimates (``~``), of a larger part of one nothing.
    Set ``counts = False`` in a class derived from it to spare the two queries.
    """

    title = _("state")
    parameter_name = "state"
    counts = True
    # No state's name begins with an underscore.
    unknown = "_unknown"

    def labels(self, model: Any) -> list[tuple[str, Any]]:
        return [*model.state_graph.choices, (self.unknown, _("unknown to this version"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() != self.unknown:
            return super().queryset(request, queryset)
        graph: Any = queryset.model
        return queryset.exclude(state__in=list(graph.state_graph.states))

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Django's choices, with the number of rows after each state."""
        numbers = numbers_by_state(changelist.root_queryset) if self.counts else {}
        known = list(self.labels(changelist.model))
        others = [number for state, number in numbers.items() if state not in dict(known)]
        shown = {**numbers, self.unknown: total(others)}
        none = Number(0, total(numbers.values()).estimated)
        first, *rest = self._plain_choices(changelist)
        yield first
        for (value, label), choice in zip(self.lookup_choices, rest, strict=True):
            number = shown.get(value, none)
            yield choice | ({"display": f"{label} ({number})"} if numbers else {})

    def _plain_choices(self, changelist: Any) -> Iterator[Any]:
        """Django's choices without its facets, for which it would count each state for itself."""
        asked, changelist.add_facets = changelist.add_facets, False
        try:
            return iter(list(super().choices(changelist)))
        finally:
            changelist.add_facets = asked


class DueFilter(SimpleListFilter):
    """Rows by what the runner has to do with them; by the database's clock, as a claim sees it."""

    title = _("next due")
    parameter_name = "due"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        guards = model_admin.model.state_graph.swept_states
        return [
            (name, label) for name, (label, _chosen) in DUE.items() if guards or name != "guard"
        ]

    def get_facet_queryset(self, changelist: Any) -> Any:
        """The numbers of Django; none for a large table, over which each would be a walk."""
        many = are_many(changelist.root_queryset)
        return {} if many else super().get_facet_queryset(changelist)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = DUE.get(self.value() or "")
        return queryset if chosen is None else chosen[1](queryset)


class ModelFilter(LabelledFilter):
    """Records by the model they are about."""

    title = _("model")
    parameter_name = "model"

    def labels(self, model: Any) -> list[tuple[str, Any]]:
        return [(each._meta.label, each._meta.label) for each in stator_models()]


class ResolvedFilter(SimpleListFilter):
    """Failure records by whether the row went on since."""

    title = _("resolved")
    parameter_name = "resolved"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("no", _("Still failing")), ("yes", _("Resolved"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in ("no", "yes"):
            return queryset
        return queryset.filter(resolved__isnull=self.value() == "no")


# A model's own manager may know nothing of the queryset's words, so they are borrowed.
_words: Any = StatorQuerySet


def _overdue(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Due for more than a minute."""
    overdue: QuerySet[Any] = _words.due(rows).filter(
        state_next__lt=DatabaseNow() - timedelta(minutes=1)
    )
    return overdue


def _waiting(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(unleased(), state_next__gt=DatabaseNow()).exclude(_swept(rows))


def _idle(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(state_next__isnull=True, state_failures=0).exclude(_swept(rows))


def _guarded(rows: QuerySet[Any]) -> QuerySet[Any]:
    timeout = Q(state_next__isnull=True) | Q(state_next__gt=DatabaseNow())
    return rows.filter(_swept(rows), timeout, unleased())


def _paused(rows: QuerySet[Any]) -> QuerySet[Any]:
    """What would be run, now or later, if it were not for a pause."""
    to_run = Q(state_next__isnull=False) | _swept(rows)
    return rows.filter(paused_rows(rows.model, rows.db), unleased(), to_run)


def _swept(rows: QuerySet[Any]) -> Q:
    """The condition of rows at which sweeps look; a failing one has a due time instead."""
    model: Any = rows.model
    states = [state.name for state in model.state_graph.swept_states]
    return Q(state__in=states, state_failures=0)


DUE: dict[str, tuple[Any, Callable[[QuerySet[Any]], QuerySet[Any]]]] = {
    "now": (_("Due now"), _words.due),
    "overdue": (_("Overdue"), _overdue),
    "paused": (_("Paused"), _paused),
    "running": (_("Running"), _words.running),
    "waiting": (_("Waiting"), _waiting),
    "guard": (_("Waiting for a guard"), _guarded),
    "nothing": (_("Nothing to do"), _idle),
    "failing": (_("Failing"), _words.failing),
    "parked": (_("Parked"), _words.parked),
    "stranded": (_("Stranded"), _words.stranded),
}
