"""Workers that are on record without a process."""

from __future__ import annotations

from typing import Any

from django_fsmworker.models import Worker
from django_fsmworker.models.functions import DatabaseLater, DatabaseNow


def on_record(
    worker_id: str, *, silent: float = 0, using: str = "default", **columns: Any
) -> Worker:
    """A worker that gave its last sign of life ``silent`` seconds ago."""
    values = {
        "name": "shop", "host": "here", "pid": 7, "incarnation": 1, "status": "ready",
        "wanted": "ready", "in_flight": 2, "totals": {"moved": 3},
        "served": {"tests.Noop": "0123456789ab"},
        "running": [{"model": "tests.Noop", "state": "new", "keys": ["5"], "seconds": 9.0}],
    }  # fmt: skip
    return Worker.objects.using(using).create(
        id=worker_id,
        started=DatabaseNow(),
        heartbeat=DatabaseLater(-silent),
        expires=DatabaseLater(30 - silent),
        **{**values, **columns},
    )
