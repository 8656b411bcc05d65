"""A database that is away: said once, whoever meets it, and once when it is back."""

from __future__ import annotations

import logging
import threading
import time
import weakref

from django_fsmworker.runner.database.backing_off import FIRST_WAIT, LONGEST_WAIT, Backoff

logger = logging.getLogger(__name__)

# A part that has failed and not tried again for so long is not coming back.
FRESH = 3 * LONGEST_WAIT


class Outages:
    """Shared by all parts of a runner that talk to the database.

    ``patience``: how many seconds a question may go unanswered, at first and at the most.
    """

    def __init__(self, patience: tuple[float, float] = (10.0, 30.0)) -> None:
        self.patience = patience
        self._lock = threading.Lock()
        self._failing: dict[str, dict[Backoff, float]] = {}
        self._away_at: dict[str, float] = {}
        self._back_at: dict[str, float] = {}
        self._doubted: dict[str, float] = {}
        self._parts: weakref.WeakSet[Backoff] = weakref.WeakSet()

    def backoff(self, alias: str) -> Backoff:
        """For one part's own tries at one database."""
        part = Backoff(self, alias)
        with self._lock:
            self._parts.add(part)
        return part

    def is_away(self, alias: str) -> bool:
        """Whether the database was said to be away, and not yet to be back."""
        return alias in self._failing

    def back_at(self, alias: str) -> float:
        """When the last outage ended, in ``time.monotonic()`` seconds."""
        return self._back_at.get(alias, float("-inf"))

    def away_at(self, alias: str) -> float:
        """When it began."""
        return self._away_at.get(alias, float("-inf"))

    def over_since(self, alias: str, moment: float) -> bool:
        """Whether one began after this moment and is over: what was lost then was lost to it."""
        return not self.is_away(alias) and self.away_at(alias) > moment

    def doubted_before(self, alias: str) -> float:
        """Connections from before this moment may be lost without anybody knowing."""
        return self._doubted.get(alias, float("-inf"))

    def doubt(self, alias: str) -> None:
        """A connection was lost: others may be, too."""
        self._doubted[alias] = time.monotonic()

    def look(self) -> None:
        """End the questions that have gone unanswered for too long."""
        with self._lock:
            parts = list(self._parts)
        for part in parts:
            part.look()

    def began(self, part: Backoff, reason: str) -> None:
        with self._lock:
            known = part.alias in self._failing
            self._failing.setdefault(part.alias, {})[part] = time.monotonic() + FRESH
        if not known:
            self._away_at[part.alias] = time.monotonic()
            self.doubt(part.alias)
            logger.error(
                "The database %r is away (%s); waiting until it is back.",
                part.alias,
                reason,
                extra={"action": "outage", "database": part.alias},
            )

    def does_not_know(self, part: Backoff) -> None:
        """This part has failed, and has nothing to ask any more: others will tell."""
        with self._lock:
            failing = self._failing.get(part.alias, {})
            if part in failing:
                failing[part] = min(failing[part], time.monotonic() + FIRST_WAIT)

    def ended(self, part: Backoff) -> None:
        """This part has its answer; it is over when no other part fails."""
        now = time.monotonic()
        with self._lock:
            failing = self._failing.get(part.alias)
            if failing is None:
                return
            failing.pop(part, None)
            if any(until > now for until in failing.values()):
                return
            del self._failing[part.alias]
            self._back_at[part.alias] = now
        logger.warning(
            "The database %r is back.",
            part.alias,
            extra={"action": "outage_over", "database": part.alias},
        )
