"""One part of a runner and one database: what it asks, and when it asks again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError, connections

from django_fsmworker.runner.database.connections import cut, discard
from django_fsmworker.store.errors import is_cancelled, is_contention

if TYPE_CHECKING:
    from django_fsmworker.runner.database.outages import Outages

FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
# A database that says "not now" for longer is as good as away.
LONGEST_CONTENTION = 5.0
CANCEL_TIMEOUT = 1.0


class Backoffs(dict[str, "Backoff"]):
    """One part's own for each database, made when it first asks that one."""

    def __init__(self, outages: Outages) -> None:
        super().__init__()
        self._outages = outages

    def __missing__(self, alias: str) -> Backoff:
        self[alias] = self._outages.backoff(alias)
        return self[alias]


class Backoff:
    """One part's own tries: how long they may take, and how long it waits before the next."""

    def __init__(self, outages: Outages, alias: str) -> None:
        self.alias = alias
        self.retry_at = float("-inf")
        self._outages = outages
        self._wait = 0.0
        self._contended_since: float | None = None
        self._lock = threading.Lock()
        self._patience, self._most_patience = outages.patience
        self._wrapper: Any = None
        self._connection: Any = None
        self._connected_at = float("-inf")
        self._asked: float | None = None
        self._sent = float("inf")
        self._cancelled = self._patiently = False

    @contextmanager
    def asking(self, *, patiently: bool = False) -> Iterator[None]:
        """While the calling thread asks the database something, its patience is watched.

        A question that is asked ``patiently`` may take as long as it likes, unless there is an
        outage meanwhile, which its connection will hardly have survived.
        """
        with self._lock:
            self._asked = self._sent = time.monotonic()
            self._wrapper, self._patiently = connections[self.alias], patiently
            self._cancelled = False
        self._look_at_connection()
        try:
            yield
        finally:
            self._connection = self._wrapper.connection
            with self._lock:
                self._asked = None

    def look(self) -> None:
        """Called by another thread: end a question that has gone unanswered for too long.

        The server is asked to cancel it, so that nothing is done there of which nobody hears. What
        does not end by that is cut off. The next question may take longer: it may just be slow.
        """
        with self._lock:
            if self._asked is None or time.monotonic() < self._asked + self._patience:
                return
            if self._patiently:
                if self._outages.away_at(self.alias) > self._asked:
                    cut(self._wrapper)
                return
            waited = time.monotonic() - self._asked
            if not self._outages.over_since(self.alias, self._asked):
                self._outages.began(self, f"no answer for {waited:.0f} s")
            if self._cancelled or not _cancel(self._wrapper):
                cut(self._wrapper)
            self._cancelled = True

    def failed(self, error: BaseException) -> float:
        """The calling thread's statement failed; seconds until the next try.

        Contention and a cancelled statement are worth another try at once, unless they last, and so
        is a connection from before the last outage, which it has not survived. Otherwise an outage
        is said. With jitter, so that a fleet does not come back all at once.
        """
        if (is_contention(error) or is_cancelled(error)) and not self._lasts():
            return FIRST_WAIT
        discard(connections[self.alias])
        if not self._outages.is_away(self.alias) and self._is_a_leftover():
            return FIRST_WAIT
        self._outages.began(self, str(error).strip() or type(error).__name__)
        if self._cancelled:
            self._patience = min(2 * self._patience, self._most_patience)
        self._wait = min(LONGEST_WAIT, self._wait * 2 or FIRST_WAIT)
        wait = self._wait * random.uniform(0.5, 1.0)
        self.retry_at = time.monotonic() + wait
        return wait

    def succeeded(self) -> None:
        """The database answered."""
        self._contended_since = None
        if self._wait:
            self._wait = 0.0
            self._patience = self._outages.patience[0]
        if self._outages.is_away(self.alias):
            self._outages.ended(self)

    def rest(self) -> None:
        """There is nothing to ask any more; whether the database is back others will find out."""
        if self._outages.is_away(self.alias):
            self._outages.does_not_know(self)

    def connect(self) -> float:
        """Connect on the calling thread; the seconds until the next try, 0 if there is no need."""
        self._connected_at = time.monotonic()
        try:
            connections[self.alias].ensure_connection()
        except (DatabaseError, InterfaceError) as error:
            return self.failed(error)
        self.succeeded()
        return 0.0

    def _look_at_connection(self) -> None:
        """Ask nothing on one from before the last outage: there may be nobody at its other end."""
        if self._connection is not None and self._wrapper.connection is self._connection:
            if not self._is_a_leftover():
                return
            discard(self._wrapper)
        self._connected_at = self._sent

    def _is_a_leftover(self) -> bool:
        """Whether the connection is from before the last outage; asked once about each."""
        before, self._connected_at = self._connected_at, time.monotonic()
        return before < self._outages.away_at(self.alias)

    def _lasts(self) -> bool:
        """Whether the database has said "not now" for long, or has taken long to say so."""
        now = time.monotonic()
        if self._contended_since is None:
            self._contended_since = min(now, self._sent)
        return self._cancelled or now - self._contended_since > LONGEST_CONTENTION


def _cancel(wrapper: Any) -> bool:
    """Ask the server to end the statement of another thread; False if it cannot be asked."""
    if not hasattr(wrapper.connection, "cancel_safe"):
        return True
    try:
        wrapper.connection.cancel_safe(timeout=CANCEL_TIMEOUT)
    except wrapper.Database.Error:
        return False
    return True
