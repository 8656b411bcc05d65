"""Actions that write themselves what is written once they have returned: the row's move, and the
end of their event. They fail, and no other event with them.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from django_fsmworker.events.endings import pending
from django_fsmworker.graph import EventTransition
from django_fsmworker.models.event import Event
from django_fsmworker.models.keys import with_keys


def refuse_meddling(alias: str, model: Any, key: Any, event: Event, edge: EventTransition) -> None:
    """Raise ``ValueError`` if the action of ``edge``, which has just returned, has done that.

    ``key`` is that of the locked row of ``model``, whose move has not been written yet.
    """
    if not pending(alias).filter(pk=event.pk).exists():
        raise ValueError(
            f"The action of {event.trigger} ended its own event itself; leave that one out, it is "
            f"delivered when the action has returned."
        )
    rows: QuerySet[Any] = QuerySet(model, using=alias)
    there = rows.filter(with_keys(model, [key]), state=edge.source.name)
    if edge.target is not None and not there.exists():
        raise ValueError(
            f"The action of {event.trigger} moved or deleted {model._meta.label} {key} itself; "
            f"declare with to= where it leads."
        )
