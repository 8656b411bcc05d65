"""What a runner does beside moving rows: it deletes expired ones, sums up, purges old records."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import Error, connections

from django_fsmworker import clock
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models.records import FailureRecord, StatorLog
from django_fsmworker.runner.counters import EXPIRED, Counters
from django_fsmworker.runner.database.connections import ThreadConnections, discard
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.settling.writing import tell_expired
from django_fsmworker.store import Store
from django_fsmworker.store.errors import is_refusal
from django_fsmworker.store.expiry import expire, with_overdue_rows

logger = logging.getLogger(__name__)

SUMMARY_INTERVAL = 60.0
PURGE_INTERVAL = 3600.0
KEEP_LOG = timedelta(days=30)
KEEP_RESOLVED = timedelta(days=7)
LONGEST_REFUSAL = 3600.0
PAUSE = 0.05
MOST_REFUSED = 10_000


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
        self._worker = worker
        self._stopped = threading.Event()
        self._backoffs = {store.alias: outages.backoff(store.alias) for store in stores.values()}
        self._refused: dict[tuple[Any, Any], tuple[float, float]] = {}
        self._since = dict.fromkeys(self._backoffs, clock.now())
        self._next_delete = self._next_purge = 0.0
        self._next_summary = time.monotonic() + SUMMARY_INTERVAL

    def run(self) -> None:
        """Look after whatever is due, then sleep until something is again."""
        own = ThreadConnections(beside_pool=True)
        try:
            wait = 0.0
            while not self._stopped.wait(wait):
                wait = self._look_after()
        finally:
            own.close()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def finish(self) -> None:
        """The last things of a runner that ends: called when its thread has ended, or never ran."""
        self._try(self.write_summaries)

    def delete_all_expired(self) -> None:
        """What the thread does from time to time, once."""
        self._try(self.delete_expired, patiently=True)

    def delete_expired(self, alias: str) -> None:
        """Delete everything that has outlived its state, batch by batch."""
        stores = dict(self._stores_of(alias))
        places = [(model, state) for model in stores for state in model.state_graph.deletion_states]
        if not places:
            return
        for model, state in with_overdue_rows(stores[places[0][0]], places):
            while self._delete_batch(stores[model], model, state):
                if self._stopped.wait(PAUSE):
                    return

    def write_summaries(self, alias: str) -> None:
        """One ``StatorLog`` row for each model that had any news."""
        since, until = self._since[alias], clock.now()
        for model, store in self._stores_of(alias):
            numbers = self._counters.since_last_summary(model)
            if numbers:
                try:
                    StatorLog.objects.using(store.alias).create(
                        model=model._meta.label,
                        worker=self._worker,
                        since=since,
                        until=until,
                        **numbers,
                    )
                except Error:
                    self._counters.not_told(model, numbers)
                    raise
        self._since[alias] = until

    def _stores_of(self, alias: str) -> list[tuple[Any, Store]]:
        return [(model, store) for model, store in self._stores.items() if store.alias == alias]

    def _look_after(self) -> float:
        """Do what is due; returns the seconds until the next thing is."""
        now = time.monotonic()
        if now >= self._next_delete:
            self._next_delete = now + self._settings.delete_interval
            self._try(self.delete_expired, patiently=True)  # cascades and receivers take a while
        if now >= self._next_summary:
            self._next_summary = now + SUMMARY_INTERVAL
            self._try(self.write_summaries)
        if now >= self._next_purge:
            self._next_purge = now + PURGE_INTERVAL
            self._try(self._purge)
        due = min(self._next_delete, self._next_summary, self._next_purge)
        return max(0.0, due - time.monotonic())

    def _try(self, task: Callable[[str], None], *, patiently: bool = False) -> None:
        """Do the task on each database; what fails on one waits there for its next turn."""
        for alias in self._backoffs:
            try:
                with self._backoffs[alias].asking(patiently=patiently):
                    task(alias)
                self._backoffs[alias].succeeded()
            except Exception as error:
                if isinstance(error, Error) and not is_refusal(error):
                    self._backoffs[alias].failed(error)
                    self._backoffs[alias].rest()  # its next turn is far away
                else:
                    discard(connections[alias])
                    logger.exception("Housekeeping failed.", extra={"action": "housekeeping"})

    def _delete_batch(self, store: Store, model: Any, state: Any) -> bool:
        """Delete one batch; whether there may be more."""
        limit, now = self._settings.delete_batch, time.monotonic()
        skip = {
            pk for (each, pk), (until, _) in self._refused.items() if each is model and until > now
        }
        expired = expire(store, model, state, limit, skip, self._worker)
        self._counters.add(model, EXPIRED, len(expired.deleted))
        for pk in expired.refused:
            self._back_off(model, pk)
        tell_expired(model, expired.deleted, state.name, store.alias)
        return len(expired.deleted) + len(expired.refused) >= limit

    def _back_off(self, model: Any, pk: Any) -> None:
        """A row that would not be deleted is left alone, longer each time."""
        if len(self._refused) >= MOST_REFUSED:
            self._refused.clear()
        _, wait = self._refused.get((model, pk), (0.0, self._settings.delete_interval))
        self._refused[model, pk] = time.monotonic() + wait, min(wait * 2, LONGEST_REFUSAL)
        logger.warning(
            "%s %s could not be deleted; its failure record says why.",
            model._meta.label,
            pk,
            extra={"action": "delete_refused", "model": model._meta.label, "pk": pk},
        )

    def _purge(self, alias: str) -> None:
        now: datetime = clock.now()
        StatorLog.objects.using(alias).filter(until__lt=now - KEEP_LOG).delete()
        FailureRecord.objects.using(alias).filter(resolved__lt=now - KEEP_RESOLVED).delete()
