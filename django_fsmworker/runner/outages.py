"""A database that is away: said once, tried again ever more slowly, said once when it is back."""

from __future__ import annotations

import logging
import random
import threading
import time

from django.db import connections

from django_fsmworker.runner.connections import discard

logger = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0


class Outages:
    """Shared by all parts of a runner that talk to the database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away: set[str] = set()

    def backoff(self, alias: str) -> Backoff:
        """For one part's own tries at one database."""
        return Backoff(self, alias)

    def began(self, alias: str, error: BaseException) -> None:
        with self._lock:
            if alias in self._away:
                return
            self._away.add(alias)
        logger.error(
            "The database %r is away (%s); waiting until it is back.",
            alias,
            str(error).strip() or type(error).__name__,
            extra={"action": "outage", "database": alias},
        )

    def ended(self, alias: str) -> None:
        with self._lock:
            if alias not in self._away:
                return
            self._away.discard(alias)
        logger.warning(
            "The database %r is back.", alias, extra={"action": "outage_over", "database": alias}
        )


class Backoff:
    """How long one part waits before it tries again."""

    def __init__(self, outages: Outages, alias: str) -> None:
        self._outages = outages
        self._alias = alias
        self._wait = 0.0
        self.retry_at = float("-inf")

    def failed(self, error: BaseException) -> float:
        """The calling thread's statement failed: drop its connection; seconds until the next try.

        With jitter, so that a fleet does not come back all at once.
        """
        discard(connections[self._alias])
        self._outages.began(self._alias, error)
        self._wait = min(LONGEST_WAIT, self._wait * 2 or FIRST_WAIT)
        wait = self._wait * random.uniform(0.5, 1.0)
        self.retry_at = time.monotonic() + wait
        return wait

    def succeeded(self) -> None:
        """The database answered."""
        if self._wait:
            self._wait = 0.0
            self._outages.ended(self._alias)
