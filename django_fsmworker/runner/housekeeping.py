"""What a runner does beside moving rows: it deletes expired ones, sums up, purges old records."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connections

from django_fsmworker import clock
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models.records import FailureRecord, StatorLog
from django_fsmworker.runner.connections import discard
from django_fsmworker.runner.counters import EXPIRED, Counters
from django_fsmworker.runner.outages import Backoff, Outages
from django_fsmworker.signals import row_expired
from django_fsmworker.store import Store
from django_fsmworker.store.expiry import expire

logger = logging.getLogger(__name__)

SUMMARY_INTERVAL = 60.0
PURGE_INTERVAL = 3600.0
KEEP_LOG = timedelta(days=30)
KEEP_RESOLVED = timedelta(days=7)
LONGEST_REFUSAL = 3600.0
PAUSE = 0.05


class Housekeeping(threading.Thread):
    """Deletes in a slot of its own, so that checks and deletes do not wait for each other."""

    def __init__(
        self,
        stores: Mapping[Any, Store],
        settings: RunnerSettings,
        counters: Counters,
        outages: Outages,
        worker: str,
    ) -> None:
        super().__init__(name="fsmworker-housekeeping", daemon=True)
        self._stores = stores
        self._settings = settings
        self._counters = counters
        self._outages = outages
        self._worker = worker
        self._stopped = threading.Event()
        self._backoffs: dict[str, Backoff] = {}
        self._refused: dict[tuple[Any, Any], tuple[float, float]] = {}
        self._since = clock.now()
        self._next_delete = self._next_purge = 0.0
        self._next_summary = time.monotonic() + SUMMARY_INTERVAL

    def run(self) -> None:
        """Look after whatever is due, then sleep until something is again."""
        try:
            wait = 0.0
            while not self._stopped.wait(wait):
                wait = self._look_after()
        finally:
            for alias in {store.alias for store in self._stores.values()}:
                discard(connections[alias])

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def delete_expired(self) -> None:
        """Delete everything that has outlived its state, batch by batch."""
        for model, store in self._stores.items():
            for state in model.state_graph.deletion_states:
                while self._delete_batch(store, model, state) and not self._stopped.wait(PAUSE):
                    pass

    def write_summaries(self) -> None:
        """One ``StatorLog`` row for each model that had any news."""
        since, self._since = self._since, clock.now()
        for model, numbers in self._counters.since_last_summary().items():
            StatorLog.objects.using(self._stores[model].alias).create(
                model=model._meta.label,
                worker=self._worker,
                since=since,
                until=self._since,
                **numbers,
            )

    def _look_after(self) -> float:
        """Do what is due; returns the seconds until the next thing is."""
        alias = next(iter(self._stores.values())).alias
        backoff = self._backoffs.setdefault(alias, self._outages.backoff(alias))
        try:
            now = time.monotonic()
            if now >= self._next_delete:
                self._next_delete = now + self._settings.delete_interval
                self.delete_expired()
            if now >= self._next_summary:
                self._next_summary = now + SUMMARY_INTERVAL
                self.write_summaries()
            if now >= self._next_purge:
                self._next_purge = now + PURGE_INTERVAL
                self._purge()
            backoff.succeeded()
        except Exception as error:
            return backoff.failed(error)
        due = min(self._next_delete, self._next_summary, self._next_purge)
        return max(0.0, due - time.monotonic())

    def _delete_batch(self, store: Store, model: Any, state: Any) -> bool:
        """Delete one batch; whether there may be more."""
        limit, now = self._settings.delete_batch, time.monotonic()
        skip = [
            pk for (each, pk), (until, _) in self._refused.items() if each is model and until > now
        ]
        expired = expire(store, model, state, limit, skip, self._worker)
        self._counters.add(model, EXPIRED, len(expired.deleted))
        for pk in expired.refused:
            self._back_off(model, pk)
        if row_expired.has_listeners(model):
            for pk in expired.deleted:
                row_expired.send_robust(sender=model, pk=pk, source=state.name, using=store.alias)
        return len(expired.deleted) + len(expired.refused) >= limit

    def _back_off(self, model: Any, pk: Any) -> None:
        """A row that would not be deleted is left alone, longer each time."""
        _, wait = self._refused.get((model, pk), (0.0, self._settings.delete_interval))
        self._refused[model, pk] = time.monotonic() + wait, min(wait * 2, LONGEST_REFUSAL)
        logger.warning(
            "%s %s could not be deleted; its failure record says why.",
            model._meta.label,
            pk,
            extra={"action": "delete_refused", "model": model._meta.label, "pk": pk},
        )

    def _purge(self) -> None:
        for alias in {store.alias for store in self._stores.values()}:
            now: datetime = clock.now()
            StatorLog.objects.using(alias).filter(until__lt=now - KEEP_LOG).delete()
            FailureRecord.objects.using(alias).filter(resolved__lt=now - KEEP_RESOLVED).delete()
