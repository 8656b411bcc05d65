"""What those do that submit events while runners are killed, each on its own connection."""

from __future__ import annotations

import random

from django_fsmworker.events import Submission, submit_event, submit_events
from tests.app.models import Account

# What tells the numbers of one source from those of the others.
APART = 1_000_000


def submit(source: int, count: int, rows: list[int]) -> None:
    """Submit so many events, one by one or a few together, to rows chosen at random."""
    chosen = random.Random(source)
    numbers = iter(range(source * APART, source * APART + count))
    while group := list(zip(range(chosen.choice([1, 1, 1, 10, 50])), numbers, strict=False)):
        submissions = [
            Submission((Account, chosen.choice(rows)), "book", {"number": number, "amount": 3})
            for _, number in group
        ]
        if len(submissions) == 1:
            one = submissions[0]
            submit_event(one.target, one.trigger, one.context)
        else:
            submit_events(submissions)


def submit_keys(count: int, row: int, together: bool) -> list[int]:
    """Submit an event for each key; the ids that came back."""
    submissions = [
        Submission((Account, row), "nothing", idempotency_key=f"key {n}") for n in range(count)
    ]
    if together:
        return list(submit_events(submissions))
    return [
        submit_event(each.target, each.trigger, idempotency_key=each.idempotency_key)
        for each in submissions
    ]
