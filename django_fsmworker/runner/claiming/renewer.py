"""Keeps the leases of the rows in hand, and notices which rows are not in hand any more."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, InterfaceError

from django_fsmworker.runner.database.backing_off import Backoffs
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.runner.work.holdings import Holdings
from django_fsmworker.runner.work.ready import ReadyQueue
from django_fsmworker.store import Store

logger = logging.getLogger(__name__)


class Renewer(threading.Thread):
    """Renews, in one statement a model, every lease that has used up a third of its time.

    A lease is counted from before the statement that took it was sent, so this process never
    believes in it longer than the database does. A lapsed one that nobody took is renewed, too.
    """

    def __init__(
        self,
        holdings: Holdings,
        ready: ReadyQueue,
        outages: Outages,
        lease: float,
        on_lost: Callable[[list[Attempt]], None],
    ) -> None:
        super().__init__(name="fsmworker-renewer", daemon=True)
        self._holdings = holdings
        self._ready = ready
        self._lease = lease
        self._on_lost = on_lost
        self._stopped = threading.Event()
        self._backoffs = Backoffs(outages)

    def run(self) -> None:
        own = ThreadConnections(beside_pool=True)
        try:
            wait = self._lease / 6
            while not self._stopped.wait(wait):
                wait = self._renew_all()
        finally:
            own.close()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def _renew_all(self) -> float:
        """Renew what needs it; returns the seconds until the next look."""
        soon = time.monotonic() + self._lease * 2 / 3
        groups: dict[tuple[Store, Any], list[Attempt]] = {}
        for attempt in self._holdings.all():
            if attempt.lease_until < soon:
                groups.setdefault((attempt.store, attempt.model), []).append(attempt)
        wait = self._lease / 6
        for (store, model), attempts in groups.items():
            backoff = self._backoffs[store.alias]
            try:
                with backoff.asking():
                    lost = self._renew(store, model, attempts)
                backoff.succeeded()
                self._on_lost(lost)
            except (DatabaseError, InterfaceError) as error:
                wait = min(wait, backoff.failed(error))
            except Exception:
                logger.exception("Renewing failed.", extra={"action": "renew_failed"})
        asked = {store.alias for store, _ in groups}
        for alias in self._backoffs.keys() - asked:
            self._backoffs[alias].rest()
        self._ready.recover()
        return wait

    def _renew(self, store: Store, model: Any, attempts: list[Attempt]) -> list[Attempt]:
        """Renew what is still ours; returns what is not."""
        attempts.sort(key=lambda attempt: attempt.lease_until)
        sent = time.monotonic()
        renewed = store.renew(model, [attempt.hold for attempt in attempts], self._lease)
        missing = []
        for attempt in attempts:
            if attempt.pk in renewed:
                attempt.lease_until = sent + self._lease
            else:
                missing.append(attempt)
        if not missing:
            return []
        held = store.still_held(model, [attempt.hold for attempt in missing])
        lost = [each for each in missing if each.pk not in held and not each.finished]
        if lost:
            store.hand_back(model, [attempt.hold for attempt in lost])
        return lost
