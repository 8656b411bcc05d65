"""Renewing the leases of rows in flight, and noticing which rows are lost."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, InterfaceError

from django_fsmworker.logs import logger_for
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuards
from django_fsmworker.runner.execution.writing import write_in_parts
from django_fsmworker.runner.in_flight.attempts import Attempt, InFlight
from django_fsmworker.runner.in_flight.queues import ReadyQueue
from django_fsmworker.runner.in_flight.revocations import Revocations
from django_fsmworker.store import Store
from django_fsmworker.store.errors import is_refusal

logger = logger_for(__name__)

LOCKED_WAIT = 0.2

Groups = dict[tuple[Store, Any], list[Attempt]]


@dataclass(frozen=True)
class PermitRenewal:
    """What is renewed beside rows: the permits, in each database, by which limits are kept.

    ``interrupt`` ends the checks of attempts that have lost theirs.
    """

    stores: Collection[Store]
    renew: Callable[[Store], list[Attempt]]
    interrupt: Callable[[list[Attempt]], None]

    def renew_in(self, store: Store) -> None:
        """Renew those of one database."""
        lost = self.renew(store)
        if lost:
            logger.warning(
                "%d rows run here whose permits others have meanwhile, since they could not be "
                "renewed in time; their checks are ended, and tried again.",
                len(lost),
                extra={"action": "permits_lost"},
            )
            self.interrupt(lost)


class Renewer(threading.Thread):
    """A thread that renews, one statement a model, leases that have used up a third of their time.

    A lease is counted from before the statement that took it was sent, so this process never
    believes in it longer than the database does. A lapsed one that nobody took is renewed, too.
    ``on_lost`` gets the attempts whose rows have moved on and are not leased here any more. Of rows
    that were moved and still are, the lease is renewed until their checks have ended.
    """

    def __init__(
        self,
        in_flight: InFlight,
        ready: ReadyQueue,
        outages: OutageTracker,
        lease: float,
        on_lost: Callable[[list[Attempt]], None],
        revocations: Revocations,
        permits: PermitRenewal,
    ) -> None:
        super().__init__(name="fsmworker-renewer", daemon=True)
        self._in_flight = in_flight
        self._ready = ready
        self._lease = lease
        self._on_lost = on_lost
        self._revocations = revocations
        self._permits = permits
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._query_guards = QueryGuards(outages)
        self._mismatches = outages.mismatches

    def run(self) -> None:
        own = ThreadConnections(beside_pool=True)
        try:
            due = time.monotonic() + self._lease / 6
            while not self._stopped.is_set():
                if self._woken.wait(max(0.0, due - time.monotonic())):
                    self._woken.clear()
                    due = min(due, time.monotonic() + self._look_for_revoked())
                if not self._stopped.is_set() and time.monotonic() >= due:
                    due = time.monotonic() + self._renew_all()
        finally:
            own.close()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._woken.set()

    def look_for_revoked(self, model: Any) -> None:
        """Look soon, on this thread, which claims of rows of ``model`` were revoked."""
        self._asked.put(model)
        self._woken.set()

    def _look_for_revoked(self) -> float:
        """Find revoked claims of the models asked about; seconds until the next look."""
        models = set()
        while not self._asked.empty():
            models.add(self._asked.get())
        held = [each for each in self._in_flight.all() if each.model in models]
        groups = _grouped(each for each in held if not (each.superseded or each.finished))

        def find(store: Store, model: Any, attempts: list[Attempt]) -> float:
            found = self._revocations.find(store, model, attempts)
            return self._let_go(store, model, found) if found else self._lease

        return self._ask(groups, find)

    def _renew_all(self) -> float:
        """Renew the leases that need it; returns the seconds until the next look."""
        # First, so that nothing begins whose permit is lost.
        permits = self._ask(
            {(store, None): [] for store in self._permits.stores},
            lambda store, model, attempts: self._renew_permits(store),
        )
        soon = time.monotonic() + self._lease * 2 / 3
        held = self._in_flight.all()
        revoked = _grouped(each for each in held if each.revoked)
        live = _grouped(each for each in held if each.lease_until < soon and not each.revoked)
        wait = min(self._ask(live, self._renew), self._ask(revoked, self._let_go), self._lease / 6)
        wait = min(wait, permits)
        asked = {store.alias for store, _ in (*live, *revoked)}
        for alias in self._query_guards.keys() - asked:
            self._query_guards[alias].rest()
        self._ready.recover()
        return wait

    def _ask(self, groups: Groups, question: Callable[[Store, Any, list[Attempt]], float]) -> float:
        """Ask about the rows of each table; returns the shortest wait until the next time."""
        wait = self._lease
        for (store, model), attempts in groups.items():
            query_guard = self._query_guards[store.alias]
            try:
                with query_guard.asking():
                    wait = min(wait, question(store, model, attempts))
                query_guard.succeeded()
            except (DatabaseError, InterfaceError) as error:
                if not is_refusal(error):
                    wait = min(wait, query_guard.failed(error))
                elif not self._mismatches.explains(store, model, error):
                    logger.exception("Renewing failed.", extra={"action": "renew_failed"})
            except Exception:
                logger.exception("Renewing failed.", extra={"action": "renew_failed"})
        return wait

    def _renew_permits(self, store: Store) -> float:
        self._permits.renew_in(store)
        return self._lease

    def _renew(self, store: Store, model: Any, attempts: list[Attempt]) -> float:
        """Renew the leases that are still ours; give up the attempts that have lost theirs."""
        attempts.sort(key=lambda attempt: attempt.lease_until)
        sent = time.monotonic()
        renewed, refused = write_in_parts(
            lambda fences: store.renew(model, fences, self._lease),
            [attempt.fence for attempt in attempts],
            lambda error: self._mismatches.explains(store, model, error),
        )
        for fence in refused:
            logger.warning(
                "The database refuses to renew the lease of %s %s.",
                model._meta.label,
                fence.pk,
                extra={
                    "action": "renew_refused",
                    "model": model._meta.label,
                    "pk": fence.pk,
                    "state": fence.state,
                },
            )
        missing = []
        for attempt in attempts:
            if attempt.pk in renewed:
                attempt.lease_until = sent + self._lease
            else:
                missing.append(attempt)
        if not missing:
            return self._lease
        held = store.still_held(model, [attempt.fence for attempt in missing])
        moved = [each for each in missing if each.pk not in held and not each.finished]
        revoked = self._revocations.find(store, model, moved)
        others = [each for each in moved if each not in revoked]
        if others:
            revoked += self._revocations.revoke(store, model, others)
            self._on_lost([each for each in others if each not in revoked])
        return self._let_go(store, model, revoked) if revoked else self._lease

    def _let_go(self, store: Store, model: Any, attempts: list[Attempt]) -> float:
        """Release rows whose checks have ended, renew the leases of the others; the next look."""
        sent = time.monotonic()
        left = self._revocations.release(store, model, attempts)
        self._revocations.extend(store, model, left, sent)
        return LOCKED_WAIT if any(each.finished for each in left) else self._lease


def _grouped(attempts: Iterable[Attempt]) -> Groups:
    """The attempts by table."""
    groups: Groups = {}
    for attempt in attempts:
        groups.setdefault((attempt.store, attempt.model), []).append(attempt)
    return groups
