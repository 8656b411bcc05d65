"""A row's life as columns of a list or lines of a page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_fsmworker import clock
from django_fsmworker.admin.formatting import ModelAdminPart, at, duration
from django_fsmworker.admin.running import is_held, running_since
from django_fsmworker.models.fields import failures_of

COLUMNS = {
    "shown_state": "state",
    "shown_age": "state_changed",
    "shown_due": "state_next",
    "shown_failures": "state_failures",
}
"""The columns, and the field that each of them shows and is sorted by."""


class StateColumns(ModelAdminPart):
    """Columns for the list of any admin, to be named in ``list_display``. None of them queries."""

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, row: Any) -> str:
        """The label of the row's state; a state that this build does not know shows as it is."""
        return badge(row)

    @admin.display(description=_("age"), ordering="-state_changed")
    def shown_age(self, row: Any) -> str:
        """The time since the row entered its state."""
        return at(duration(row.state_age), row.state_changed)

    @admin.display(description=_("next due"), ordering="state_next")
    def shown_due(self, row: Any) -> str:
        """The time at which the runner looks at the row next, or what keeps it from doing so."""
        return next_due(row, clock.now()) or self.get_empty_value_display()

    @admin.display(description=_("failures"), ordering="state_failures")
    def shown_failures(self, row: Any) -> int:
        """The number of the row's attempts that failed in a row."""
        return failures_of(row)


def badge(row: Any) -> SafeString:
    """The label of the row's state, with a class that says how the row fares there."""
    state = row.state_graph.states.get(row.state)
    label = str(row.state) if state is None else str(state.label)
    return format_html('<span class="fsmworker-badge fsmworker-{}">{}</span>', fares(row), label)


def fares(row: Any) -> str:
    """How the row fares, in a word; the style sheet has a colour for each."""
    state = row.state_graph.states.get(row.state)
    if state is None:
        return "unknown"
    if row.state_failures:
        return "parked" if row.state_next is None else "failing"
    if state in [each.failure_state for each in state.graph.states.values()]:
        return "failed"
    if state.terminal:
        return "ended"
    return "working" if state.automatic else "waiting"


def next_due(row: Any, now: datetime) -> str | SafeString | None:
    """When ``row`` is run next, as of ``now``; None where the runner has nothing to do.

    It tells apart what ``StatorQuerySet`` does, which goes by the database's clock.
    """
    if is_held(row, now):
        return _running(row, now)
    if row.state_next is None:
        return _without_due_time(row)
    seconds = (row.state_next - now).total_seconds()
    words = _distance(seconds)
    failures = failures_of(row)
    if _is_swept(row):  # what is due is only its timeout
        words = gettext("when a guard is true, or %(distance)s") % {"distance": words}
    elif failures:
        failing = ngettext("failing: %(count)d attempt", "failing: %(count)d attempts", failures)
        words = f"{failing % {'count': failures}}, {words}"
    elif seconds >= 1 and _times_out(row):
        words = gettext("times out %(distance)s") % {"distance": words}
    return at(words, row.state_next)


def _running(row: Any, now: datetime) -> SafeString:
    since = running_since(row)
    if since is None:
        return at(gettext("running"), row.state_lease)
    words = gettext("running %(duration)s")
    return at(words % {"duration": duration((now - since).total_seconds())}, since)


def _distance(seconds: float) -> str:
    if seconds >= 1:
        return gettext("in %(duration)s") % {"duration": duration(seconds)}
    if seconds > -1:
        return gettext("due now")
    return gettext("overdue %(duration)s") % {"duration": duration(-seconds)}


def _times_out(row: Any) -> bool:
    """Whether it is for the timeout of its state that the row is due, and not for a check."""
    state = row.state_graph.states.get(row.state)
    if state is None or state.timeout_after is None:
        return False
    timeout = row.state_changed + timedelta(seconds=state.timeout_after)
    return not state.checked or bool(row.state_next >= timeout)


def _without_due_time(row: Any) -> str | None:
    state = row.state_graph.states.get(row.state)
    if row.state_failures:
        return gettext("parked")
    if _is_swept(row):
        return gettext("when a guard is true")
    return gettext("stranded") if state and state.automatic else None


def _is_swept(row: Any) -> bool:
    """Whether sweeps look at the row; a failing one has a due time instead."""
    return row.state in row.state_graph.swept_states and not row.state_failures
