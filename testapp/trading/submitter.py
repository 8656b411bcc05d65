"""One process that submits events: ``python -m testapp.trading.submitter SOURCE NUMBER``.

It has the feed of somebody who says things at least once, so every fifth event comes twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

FILE = 20


def submit(source: str, number: int) -> None:
    """Submit what the source says of the orders, which are those in the order of their keys."""
    from django.contrib.auth import get_user_model

    from django_fsmworker.events import Submission, submit_event, submit_events
    from testapp.models import TradeOrder
    from testapp.trading.people import APPROVER
    from testapp.trading.plan import PERSON, Step, steps_of

    keys = list(TradeOrder.objects.order_by("pk").values_list("pk", flat=True))
    by: Any = source
    if source == PERSON:
        by = get_user_model()._default_manager.get(username=APPROVER)

    def submission(step: Step) -> Submission:
        return Submission(
            (TradeOrder, keys[step.position]),
            step.trigger,
            step.context,
            delay=step.delay,
            idempotency_key=step.key,
            by=by,
        )

    steps = list(steps_of(source, number))
    if source == "bank":  # it sends a file
        for start in range(0, len(steps), FILE):
            some = steps[start : start + FILE]
            submit_events(submission(step) for step in (*some, some[0]))
        return
    for count, step in enumerate(steps):
        one = submission(step)
        for _ in range(2 if count % 5 == 0 else 1):
            submit_event(
                one.target,
                one.trigger,
                one.context,
                delay=one.delay,
                idempotency_key=one.idempotency_key,
                by=one.by,
            )


def main(arguments: Sequence[str]) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testapp.settings")
    import django

    django.setup()
    source, number = arguments
    submit(source, int(number))


if __name__ == "__main__":
    main(sys.argv[1:])
