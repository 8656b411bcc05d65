"""Revoked claims: rows that somebody moved while they were held here.

Such a row is in its new state already and still leased by this process, so that the check of that
state does not begin while the old one is at work. The old check is ended, its row released.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django_fsmworker.runner.in_flight.attempts import Attempt, InFlight, Work, attempts_of
from django_fsmworker.store import Store


class Revocations:
    """Finds them, ends their checks and releases their rows; for the renewer and the settler.

    ``cancel`` supersedes attempts and ends their checks. ``running`` has the calls that were taken
    to be run and have not ended, those of abandoned checks included. ``on_released`` is called with
    the model whose rows are free again, and with their keys.
    """

    def __init__(
        self,
        in_flight: InFlight,
        cancel: Callable[[list[Attempt]], None],
        running: Callable[[], list[Work]],
        lease: float,
        on_released: Callable[[Store, Any, set[Any]], None],
    ) -> None:
        self._in_flight = in_flight
        self._cancel = cancel
        self._running = running
        self._lease = lease
        self._on_released = on_released

    def find(self, store: Store, model: Any, attempts: Sequence[Attempt]) -> list[Attempt]:
        """The part of ``attempts`` whose claims were revoked; their checks are being ended."""
        if not attempts:
            return []
        keys = store.revoked(model, [each.fence for each in attempts])
        found = [each for each in attempts if each.pk in keys]
        self._cancel(found)
        return found

    def revoke(self, store: Store, model: Any, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Revoke claims of rows that a plain ``update()`` moved; the attempts that had them."""
        keys = store.revoke(model, [each.fence for each in attempts])
        found = [each for each in attempts if each.pk in keys]
        self._cancel(found)
        return found

    def release(self, store: Store, model: Any, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Free the rows of checks that have ended; returns the attempts whose rows are not free.

        What somebody has locked at the moment is not, either.
        """
        busy = {each for work in self._running() for each in attempts_of(work)}
        over = [each for each in attempts if each.finished or each not in busy]
        if not over:
            return list(attempts)
        freed = store.release(model, [each.fence for each in over])
        left = [each for each in over if each.pk not in freed]
        locked = store.revoked(model, [each.fence for each in left]) if left else set()
        gone = {each for each in over if each.pk not in locked}
        self._in_flight.remove(gone)
        if freed:
            self._on_released(store, model, freed)
        return [each for each in attempts if each not in gone]

    def extend(self, store: Store, model: Any, attempts: Sequence[Attempt], sent: float) -> None:
        """Renew leases that need it of rows whose checks have not ended; ``sent`` is now."""
        ending = [each for each in attempts if each.lease_until < sent + self._lease * 2 / 3]
        if not ending:
            return
        keys = store.extend(model, [each.fence for each in ending], self._lease)
        for each in ending:
            if each.pk in keys:
                each.lease_until = sent + self._lease
