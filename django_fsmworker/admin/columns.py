"""A row's life as columns of a list or lines of a page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from django_fsmworker import clock
from django_fsmworker.admin.due import next_due
from django_fsmworker.admin.typed import ModelAdminPart
from django_fsmworker.admin.words import at, duration

COLUMNS = {
    "shown_state": "state",
    "shown_age": "state_changed",
    "shown_due": "state_next",
    "shown_failures": "state_failures",
}
"""The columns, and the field that each of them shows and is sorted by."""


class StateColumns(ModelAdminPart):
    """Columns for the list of any admin: name them in ``list_display``. None of them queries."""

    @admin.display(description=_("state"), ordering="state")
    def shown_state(self, row: Any) -> str:
        """The label of the row's state; a state that this build does not know shows as it is."""
        state = row.state_graph.states.get(row.state)
        return str(state.label) if state else str(row.state)

    @admin.display(description=_("age"), ordering="-state_changed")
    def shown_age(self, row: Any) -> str:
        """How long the row has been in its state."""
        return at(duration(row.state_age), row.state_changed)

    @admin.display(description=_("next due"), ordering="state_next")
    def shown_due(self, row: Any) -> str:
        """When the runner looks at the row next, or what keeps it from doing so."""
        return next_due(row, clock.now()) or self.get_empty_value_display()

    @admin.display(description=_("failures"), ordering="state_failures")
    def shown_failures(self, row: Any) -> int:
        """How many of its attempts failed in a row."""
        return int(row.state_failures)
