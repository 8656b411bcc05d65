"""For resources of django-import-export: what an old export says of a row's life stays unread."""

from __future__ import annotations

from typing import Any

from django_fsmworker.models.fields import ENGINE_COLUMNS


class KeepsState:
    """First base of a ``ModelResource``: importing over a row that exists does not move it.

    Its state's columns are exported all the same; a row that is new takes its ``state`` from the
    import, and everything that follows from it, such as when it is due, begins afresh.
    """

    def import_field(self, field: Any, instance: Any, row: Any, *args: Any, **kwargs: Any) -> None:
        """As the resource's own, for all but the state's columns."""
        if field.attribute in ENGINE_COLUMNS:
            if not (instance._state.adding and field.attribute == "state"):
                return
        super().import_field(field, instance, row, *args, **kwargs)  # type: ignore[misc]
