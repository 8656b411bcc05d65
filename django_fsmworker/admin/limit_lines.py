"""The limits that graphs declare, with how much of them is in use, in words for the dashboard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.utils.translation import gettext

from django_fsmworker.admin.dashboard import shown_lives
from django_fsmworker.admin.reach import Reach
from django_fsmworker.admin.redaction import redacted
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.limits import Pause, Permit
from django_fsmworker.store import permits


@dataclass(frozen=True, slots=True)
class LimitLine:
    """The limits of one state; a part is empty where nothing of the kind is declared."""

    model: str
    state: str
    limit: str
    in_use: str
    is_full: bool
    """Whether rows, or those of one key, wait for a permit."""
    rate: str
    breaker: str
    is_open: bool


def limit_lines(
    site: AdminSite, request: HttpRequest, pauses: Iterable[Pause], reach: Reach
) -> list[LimitLine]:
    """The limits of the models that this user may see; a query for each database that has some."""
    limited = [
        (declaring_model(model), model_admin.get_queryset(request).db, state)
        for model, model_admin in shown_lives(site, request)
        for state in declaring_model(model).state_graph.states.values()
        if state.limits.limit or state.limits.rate or state.limits.breaker
    ]
    labels = {model._meta.label for model, _alias, state in limited if state.limits.limit}
    limited = [each for each in limited if reach(each[1])]
    used = cache(lambda alias: permits.in_use_by_key(alias, labels))
    breakers = {
        (each._state.db, each.model, each.state): each
        for each in pauses
        if each.kind == Pause.Kind.BREAKER
    }
    return [
        _line(
            model,
            state,
            used(alias).get((model._meta.label, state.name), {}) if state.limits.limit else {},
            breakers.get((alias, model._meta.label, state.name)),
        )
        for model, alias, state in limited
    ]


def _line(model: Any, state: Any, used: dict[str, int], opened: Pause | None) -> LimitLine:
    limits, most = state.limits, max(used.values(), default=0)
    in_use = str(sum(used.values()))
    if limits.limit and limits.limit_by and used:
        key = max(used, key=used.__getitem__)
        named = Permit(model=model._meta.label, state=state.name, key=key)
        shown = redacted("label", key, named)
        in_use += " " + gettext("(most of them %(number)d, of %(key)s)") % {
            "number": most,
            "key": shown,
        }
    return LimitLine(
        model=model._meta.label,
        state=str(state.label),
        limit=_of_each(str(limits.limit), limits.limit_by) if limits.limit else "",
        in_use=in_use if limits.limit else "",
        is_full=bool(limits.limit) and most >= limits.limit,
        rate=_of_each(str(limits.rate), limits.rate_by) if limits.rate else "",
        breaker="" if limits.breaker is None else gettext("open") if opened else gettext("closed"),
        is_open=opened is not None,
    )


def _of_each(amount: str, column: str | None) -> str:
    if column is None:
        return amount
    return gettext("%(amount)s for each %(column)s") % {"amount": amount, "column": column}
