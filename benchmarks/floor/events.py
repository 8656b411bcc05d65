"""Events delivered by the loop that one would write: a transaction for each, by the ORM."""

from __future__ import annotations

import time
from typing import Any

import django


def main() -> None:
    django.setup()
    from django.apps import apps
    from django.db import transaction
    from django.db.models import QuerySet
    from django.utils import timezone

    from django_fsmworker.models import Event

    receiver: Any = apps.get_app_config("benchmarks").get_model("Receiver")
    act = receiver.state_graph.note
    events: QuerySet[Event] = QuerySet(Event)
    due = events.filter(state="pending", model=receiver._meta.label).order_by("state_next")
    rows: QuerySet[Any] = QuerySet(receiver).select_for_update(no_key=True)
    while True:
        with transaction.atomic():
            found = due.filter(state_next__lte=timezone.now()).select_for_update(skip_locked=True)
            event = found.first()
            if event is not None:
                act(rows.get(pk=event.row), EventOf(event.pk))
                events.filter(pk=event.pk).update(
                    state="delivered", state_changed=timezone.now(), state_next=None
                )
        if event is None:
            time.sleep(0.01)


class EventOf:
    """What the action looks at."""

    def __init__(self, key: int) -> None:
        self.id = key


if __name__ == "__main__":
    main()
