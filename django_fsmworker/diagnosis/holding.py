"""Who holds a row, and since when, as far as that is known; no row says so itself.

Workers tell with each sign of life which checks have run longest. A row of which none tells was
claimed the length of a lease before the lease ends, until that is renewed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django_fsmworker.models.entering import is_revoked
from django_fsmworker.models.keys import declaring_model, key_of, row_key
from django_fsmworker.models.worker import Worker, WorkerQuerySet

READ = ("host", "pid", "heartbeat", "served", "options", "running")


@dataclass(frozen=True, slots=True)
class Holding:
    """The worker that runs a row's check, and since when the row is held; None if not known."""

    worker: Worker | None = None
    since: datetime | None = None


class Holders:
    """What the living workers of a database tell; one query."""

    def __init__(self, using: str) -> None:
        self._workers = list(WorkerQuerySet(Worker, using=using).living().only(*READ))
        self._told = {
            (each.model, each.state, key): Holding(worker, each.since)
            for worker in self._workers
            for each in worker.longest_running
            for key in each.keys
        }

    def of(self, row: Any) -> Holding:
        """Of a row that is held. What is older than its claim was told of another one."""
        label = declaring_model(type(row))._meta.label
        told = self._told.get((label, row.state, row_key(key_of(row))), Holding())
        claimed = _claimed(row, [each for each in self._workers if label in each.served])
        if claimed is None or (told.since is not None and told.since >= claimed):
            return told
        return Holding(since=claimed)


def _claimed(row: Any, workers: Iterable[Worker]) -> datetime | None:
    """When the row was claimed; None if its lease was renewed since, or may have any length."""
    if is_revoked(row.state_claim) or row.state_next is None:
        return None
    if row.state_next >= row.state_lease:
        return None  # a renewal, or a touch, has put it there
    lengths = {worker.options.get("lease") for worker in workers}
    if len(lengths) != 1 or None in lengths:
        return None
    claimed: datetime = row.state_lease - timedelta(seconds=float(lengths.pop()))
    return claimed
