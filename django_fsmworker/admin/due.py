"""What the runner does next with a row, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from django_fsmworker.admin.words import at, duration


def next_due(row: Any, now: datetime) -> str | SafeString | None:
    """When ``row`` is run next, as of ``now``; None where the runner has nothing to do.

    The same distinctions as the queryset's, except that those go by the database's clock.
    """
    if row.state_claim is not None and row.state_lease is not None and row.state_lease > now:
        return at(_("running"), row.state_lease)
    if row.state_next is None:
        return _without_due_time(row)
    distance = _distance((row.state_next - now).total_seconds())
    if _is_swept(row):  # what is due is only its timeout
        distance = _("when a guard is true, or %(distance)s") % {"distance": distance}
    return at(distance, row.state_next)


def _distance(seconds: float) -> str:
    if seconds >= 1:
        return _("in %(duration)s") % {"duration": duration(seconds)}
    if seconds > -1:
        return _("due now")
    return _("due for %(duration)s") % {"duration": duration(-seconds)}


def _without_due_time(row: Any) -> str | None:
    state = row.state_graph.states.get(row.state)
    if row.state_failures:
        return _("parked")
    if _is_swept(row):
        return _("when a guard is true")
    return _("stranded") if state and state.automatic else None


def _is_swept(row: Any) -> bool:
    """Whether sweeps look at the row; a failing one has a due time instead."""
    return row.state in row.state_graph.swept_states and not row.state_failures
