"""What a runner does beside moving rows: it deletes expired ones, sums up, purges old records."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import Error, connections

from django_fsmworker import clock
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.logs import logger_for
from django_fsmworker.models.querysets import StatorQuerySet
from django_fsmworker.models.records import StatorLog, TransitionRecord
from django_fsmworker.models.worker import Worker
from django_fsmworker.runner.counters import Counters
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuards
from django_fsmworker.runner.expirer import Expirer
from django_fsmworker.runner.main_loop import Duty
from django_fsmworker.runner.stranded import StrandedRows
from django_fsmworker.store import Lane, Store, buckets, one_a_table, pauses, permits
from django_fsmworker.store.drivers import discard
from django_fsmworker.store.errors import is_refusal
from django_fsmworker.store.failures import drop_orphans
from django_fsmworker.store.fence import lane_key
from django_fsmworker.store.purging import kinds, purge
from django_fsmworker.store.transition_log import drop_old

logger = logger_for(__name__)

SUMMARY_INTERVAL = 60.0
PURGE_INTERVAL = 3600.0
# Seconds in which the last summaries are tried again.
LAST_TRIES_FOR = 0.5
RECORDS_A_TURN = 1000
MOST_COUNTED = 10_000
NOTHING_WAITS = {"due": 0, "oldest_due": 0.0}
# Rows that have waited for so many seconds are news also where nothing was done.
LONG_WAIT = 60.0
KEEP_WORKERS = timedelta(days=7)
KEEP_PAUSES = timedelta(days=7)
# Seconds: of keys that have had no rows for so long.
KEEP_LIMITS = 3600.0

# Old transitions are dropped so many at a time, and for so many seconds; the rest waits a moment.
TRANSITIONS_AT_ONCE = 2000
PURGE_SECONDS, PURGE_PAUSE = 2.0, 2.0


class Housekeeping(threading.Thread):
    """A thread for deletes, summaries and the purge, for which checks do not wait."""

    def __init__(
        self,
        stores: Mapping[Any, Store],
        settings: RunnerSettings,
        counters: Counters,
        outages: OutageTracker,
        worker: str,
        duty: Duty | None = None,
        may_be_due: Callable[[Any], bool] = lambda model: False,
        on_rescued: Callable[[Any], None] = lambda model: None,
        look_at_pauses: Callable[[Store], None] | None = None,
    ) -> None:
        super().__init__(name="fsmworker-housekeeping", daemon=True)
        tables = one_a_table(stores)
        self._stranded = StrandedRows(tables, on_rescued)
        self.waiting: dict[Any, dict[str, Any]] = {}  # what the last look found, by model
        self._stores = stores
        self._settings = settings
        self._counters = counters
        self._worker = worker
        self._duty = duty or Duty()
        self._may_be_due = may_be_due
        self._look_at_pauses = look_at_pauses
        self._stopped = threading.Event()
        self._query_guards = QueryGuards(outages, (store.alias for store in stores.values()))
        self._connections: ThreadConnections | None = None
        self._mismatches = outages.mismatches
        self.expirer = Expirer(
            tables,
            settings,
            counters,
            worker,
            self._stopped.wait,
            self._mismatches,
            self._tidy,
        )
        self._since = dict.fromkeys(self._query_guards, clock.now())
        self._unanswered: dict[Any, datetime] = {}
        self._next_delete = self._next_purge = 0.0
        self._records_seen = dict.fromkeys(self._query_guards, 0)
        self._next_summary = time.monotonic() + SUMMARY_INTERVAL

    def run(self) -> None:
        """Do whatever is due, then sleep until something is again."""
        with self._own_connections():
            wait = 0.0
            while not self._stopped.wait(wait):
                wait = self._look_after()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def finish(self) -> None:
        """Write the last summaries; called when the thread has ended, or was never started.

        Nobody comes after this, so what fails at once, as by a lost answer, is tried again.
        """
        until = time.monotonic() + LAST_TRIES_FOR
        while True:
            self._try(self.write_summaries)
            if not self._counters.has_news() or time.monotonic() >= until:
                return
            time.sleep(LAST_TRIES_FOR / 5)

    def delete_all_expired(self) -> None:
        """Delete every expired row of each database, for a single pass."""
        with self._own_connections():
            self._try(self.expirer.delete_expired, without_timeout=True)

    def write_summaries(self, alias: str) -> None:
        """Write one ``StatorLog`` row for each model with news: of what was done, or is due."""
        since, until = self._since[alias], clock.now()
        for model, store in self._stores_of(alias):
            numbers = self._counters.since_last_summary(model)
            if numbers or self._may_be_due(model):
                try:
                    self.waiting[model] = waiting = waiting_rows(store, model)
                    if numbers or waiting["oldest_due"] >= LONG_WAIT:
                        columns = {"until": until, **numbers, **waiting}
                        self._write_summary(alias, model, since, columns)
                except Error:
                    self._counters.not_saved(model, numbers)
                    raise
            else:
                self.waiting[model] = NOTHING_WAITS
        self._since[alias] = until

    def _write_summary(
        self, alias: str, model: Any, since: datetime, columns: dict[str, Any]
    ) -> None:
        # One whose answer was lost may be there: this one counts all that it did, and replaces it.
        unanswered = self._unanswered.pop(model, None)
        since = unanswered or since
        same = {"model": model._meta.label, "worker": self._worker, "since": since}
        summaries = StatorLog.objects.using(alias)
        try:
            if not (unanswered and summaries.filter(**same).update(**columns)):
                summaries.create(**same, **columns)
        except Error:
            self._unanswered[model] = since
            raise

    @contextmanager
    def _own_connections(self) -> Iterator[None]:
        """Connections for the calling thread that receivers of deletions may have, too."""
        before = [connections[alias] for alias in connections]
        self._connections = ThreadConnections(beside_pool=True, for_user_code=True)
        try:
            yield
        finally:
            self.expirer.close()
            self._connections.close()
            self._connections = None
            for wrapper in before:
                connections[wrapper.alias] = wrapper

    def _tidy(self) -> None:
        if self._connections is not None:
            self._connections.after_attempt()

    def _stores_of(self, alias: str) -> list[tuple[Any, Store]]:
        return [(model, store) for model, store in self._stores.items() if store.alias == alias]

    def _look_after(self) -> float:
        """Do what is due; returns the seconds until the next thing is."""
        now = time.monotonic()
        if now >= self._next_delete:
            self._next_delete = now + self._settings.delete_interval
            self._try(self._delete_expired, without_timeout=True)  # cascades may take a while
        if now >= self._next_summary:
            self._next_summary = now + SUMMARY_INTERVAL
            self._try(self.write_summaries)
            self._try(self._drop_orphans)
            self._try(self._ask_for_pauses)
        if now >= self._next_purge:
            self._next_purge = now + PURGE_INTERVAL
            self._try(self._purge)
        if now >= self._stranded.due_at:
            self._try(lambda alias: self._stranded.look(alias, self._mismatches.rests))
        due = min(self._next_delete, self._next_summary, self._next_purge, self._stranded.due_at)
        return max(0.0, due - time.monotonic())

    def _try(self, task: Callable[[str], None], *, without_timeout: bool = False) -> None:
        """Do the task on each database; what fails on one waits there for its next turn."""
        for alias in self._query_guards:
            try:
                with self._query_guards[alias].asking(without_timeout=without_timeout):
                    task(alias)
                self._query_guards[alias].succeeded()
            except Exception as error:
                if isinstance(error, Error) and not is_refusal(error):
                    self._query_guards[alias].failed(error)
                    self._query_guards[alias].rest()  # its next turn is far away
                else:
                    discard(connections[alias])
                    logger.exception("Housekeeping failed.", extra={"action": "housekeeping"})

    def _delete_expired(self, alias: str) -> None:
        if self._duty.may_claim(alias):
            self.expirer.delete_expired(alias)

    def _ask_for_pauses(self, alias: str) -> None:
        """Learn what is paused also while nothing is due, where somebody can ask for it."""
        if self._look_at_pauses is not None:
            for store in {store for _, store in self._stores_of(alias)}:
                self._look_at_pauses(store)

    def _drop_orphans(self, alias: str) -> None:
        """Look at the next records, and drop those whose rows are gone."""
        reached = drop_orphans(alias, self._records_seen[alias], RECORDS_A_TURN)
        self._records_seen[alias] = reached or 0

    def _purge(self, alias: str) -> None:
        now: datetime = clock.now()
        for kind in kinds():
            if kind.model is not TransitionRecord:  # of which there may be very many
                purge(alias, kind)
        Worker.objects.using(alias).purge(KEEP_WORKERS)
        pauses.purge(alias, KEEP_PAUSES)
        permits.purge(alias, KEEP_LIMITS)
        buckets.purge(alias, KEEP_LIMITS)
        if self._settings.keep_transitions:
            self._purge_transitions(alias, now - timedelta(seconds=self._settings.keep_transitions))

    def _purge_transitions(self, alias: str, before: datetime) -> None:
        """Drop entries of the transition log from before that moment, as many as time allows."""
        after, until = 0, time.monotonic() + PURGE_SECONDS
        while not self._stopped.is_set():
            reached = drop_old(alias, before, after, TRANSITIONS_AT_ONCE)
            if reached is None:
                return
            after = reached
            if time.monotonic() >= until:
                self._next_purge = time.monotonic() + PURGE_PAUSE
                return


def waiting_rows(store: Store, model: Any) -> dict[str, Any]:
    """How many rows wait to be claimed, and for how many seconds the first of them has."""
    states = [state.name for state in model.state_graph.states.values() if state.checked]
    rows: StatorQuerySet[Any] = StatorQuerySet(model, using=store.alias)
    key = lane_key(model)
    if key is not None:
        rows = rows.filter(**dict([key]))
    due = rows.due().in_state(*states).order_by()[:MOST_COUNTED].count()
    first = store.peek({model: [Lane(name, 1, key=key) for name in states]}) if due else {}
    return {"due": due, "oldest_due": max([0.0, *(-each for each in first.values())])}
