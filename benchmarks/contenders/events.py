"""Durable events: delivered by the engine, and by a loop that one would write by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import database
from benchmarks.contenders.engine import Engine
from benchmarks.peers.harness import paced
from benchmarks.processes import Worker

BY_HAND = "a loop by hand"
EACH = 20


def events() -> Any:
    """The model of events; rendering a report has no settings, and imports this module, too."""
    from django_fsmworker.models import Event

    return Event


class Delivery(Engine):
    """``runstator`` for rows each of which is sent some events, whose action only notes them."""

    def __init__(self, *, settings: str = "events", around: int = 0) -> None:
        super().__init__("Receiver", settings=settings)
        self._around = around

    def prepare(self, number: int) -> Sequence[int]:
        from django_fsmworker.events import Submission, submit_events

        database.empty(self.alias, events())
        self.clear()
        made = self.rows.bulk_create(self.new_rows(max(1, number // EACH)))
        if self._around:
            self._fill(made[0].pk)
        self._keys = submit_events(
            Submission(made[n % len(made)], "poke", {"n": n}) for n in range(number)
        )
        database.tidy(self.alias, events())
        return self._keys

    def left(self) -> int:
        prepared = (
            events().objects.using(self.alias).filter(pk__range=(self._keys[0], self._keys[-1]))
        )
        number: int = len(self._keys) - prepared.filter(state="delivered").count()
        return number

    def hand_over(self, number: int, seconds: float) -> dict[int, float]:
        moments: dict[int, float] = {}
        row = self.rows.first()
        for _ in paced(0, number, seconds):
            key = row.state_submit("poke")
            moments[key] = time.monotonic()
            self._keys.append(key)
        return moments

    def _fill(self, row: int) -> None:
        """Others, which fire in a year or later."""
        from django.db import connections

        with connections[self.alias].cursor() as cursor:
            cursor.execute(
                "INSERT INTO django_fsmworker_event (state, state_changed, state_next, "
                "state_failures, model, row, row_hash, trigger, context, by, submitted, fires_at, "
                "max_attempts, idempotency_key, reason) SELECT 'pending', now(), at, 0, %s, "
                "row::text, row, 'poke', '{}', '', now(), at, 5, '', '' "
                "FROM (SELECT %s + n %% 1000 AS row, "
                "now() + interval '1 year' + n * interval '1 second' AS at "
                "FROM generate_series(1, %s) AS n) AS others",
                [self.model._meta.label, row, self._around],
            )


class ByHand(Delivery):
    """The same events by a loop with one transaction an event."""

    name = BY_HAND

    def __init__(self) -> None:
        super().__init__(settings="one transaction an event")

    def start(self, folder: Path) -> Worker:
        command = self.python("-m", "benchmarks.floor.events")
        return Worker(command, self.environment(folder), folder)
