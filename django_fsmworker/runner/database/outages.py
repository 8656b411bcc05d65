"""What keeps a runner from its rows: databases that are away, tables that are not as expected.

Each is said once, whoever meets it, and once when it is over. Query guards find out: every part of
a runner sends its queries under one.
"""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError, Error, InterfaceError, connections

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.logs import logger_for
from django_fsmworker.store import Store
from django_fsmworker.store.drivers import cut, discard, let_go
from django_fsmworker.store.errors import is_cancelled, is_contention, is_refusal, may_be_mismatch

logger = logger_for(__name__)

# Seconds between two looks at such a table, at first and at the most.
FIRST_LOOK, LONGEST_LOOK = 1.0, 30.0


class MismatchTracker:
    """The models that rest, since their tables are not as the engine's statements expect them.

    A migration that ran under a running process, a right that was taken away: no outage, since the
    database answers, and no row is to blame. All other models go on; the table is looked at from
    time to time. Shared by the parts of a runner; times are ``time.monotonic()``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._look_at: dict[Any, float] = {}
        self._waits: dict[Any, float] = {}

    def explains(self, store: Store, model: Any, error: BaseException) -> bool:
        """Whether a table is behind an error of the engine's own statements about ``model``.

        The database is asked, on the calling thread's connection; then the model rests. True as
        well if it is away meanwhile: the next try tells.
        """
        if self.rests(model):
            return may_be_mismatch(error)
        try:
            found = store.mismatch(model, error)
        except Error:
            return True
        if found is not None:
            self._began(store, model, *found)
        return found is not None

    def rests(self, model: Any) -> bool:
        """Whether nothing of the model is to be started."""
        return model in self._look_at

    def resting(self) -> list[Any]:
        """The models that rest."""
        return list(self._look_at)

    def look_at(self, model: Any) -> float:
        """When to look at the model's table again; infinity for one that does not rest."""
        return self._look_at.get(model, float("inf"))

    def look(self, store: Store, model: Any) -> bool:
        """Look at the table again; whether the model can be run. Raises what is an outage."""
        try:
            store.probe_all(model)
        except DatabaseError as error:
            if not is_refusal(error):
                raise
            with self._lock:
                self._waits[model] = min(2 * self._waits[model], LONGEST_LOOK)
                self._look_at[model] = time.monotonic() + self._waits[model]
            return False
        with self._lock:
            del self._look_at[model], self._waits[model]
        logger.warning(
            "%s is run again: its table is as the code expects it.",
            model._meta.label,
            extra={"action": "mismatch_over", "model": model._meta.label},
        )
        return True

    def _began(self, store: Store, model: Any, table: Any, error: BaseException) -> None:
        with self._lock:
            if model in self._look_at:
                return
            self._waits[model] = FIRST_LOOK
            self._look_at[model] = time.monotonic() + FIRST_LOOK
        logger.error(
            "%s rests: the table of %s in the database %r is not as the code expects it (%s); run "
            "'manage.py migrate --database %s', restart processes with older code, or give the "
            "runner's role its rights there.",
            model._meta.label,
            table._meta.label,
            store.alias,
            str(error).partition("\n")[0].strip(),
            store.alias,
            extra={"action": "mismatch", "model": model._meta.label, "database": store.alias},
        )


# Seconds between two tries of a part that finds a database away, at first and at the most.
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
# A part that has failed and not tried again for so long is not coming back.
FRESH = 3 * LONGEST_WAIT


class OutageTracker:
    """The outages of all databases, shared by the parts of a runner that query them.

    ``mismatches`` are what is no outage: the database answers, and a table is not as expected.

    ``query_timeouts``: how many seconds a query may go unanswered, at first and at the most. Times
    are ``time.monotonic()`` seconds.
    """

    def __init__(self, query_timeouts: tuple[float, float] = (10.0, 30.0)) -> None:
        self.query_timeouts = query_timeouts
        self.mismatches = MismatchTracker()
        self._lock = threading.Lock()
        self._failing: dict[str, dict[QueryGuard, float]] = {}
        self._away_at: dict[str, float] = {}
        self._back_at: dict[str, float] = {}
        self._doubted: dict[str, float] = {}
        self._watched: weakref.WeakSet[QueryGuard] = weakref.WeakSet()

    def watch(self, part: QueryGuard) -> None:
        """Let the queries of ``part`` be watched for as long as it is used."""
        with self._lock:
            self._watched.add(part)

    def watched(self) -> list[QueryGuard]:
        """All whose queries are to be watched."""
        with self._lock:
            return list(self._watched)

    def is_away(self, alias: str) -> bool:
        """Whether the database was said to be away, and not yet to be back."""
        return alias in self._failing

    def keeps_waiting(self, alias: str) -> bool:
        """Whether it is away, or a query of the runner waits there, of which that may yet come."""
        return self.is_away(alias) or any(
            part.alias == alias and part.is_waiting() for part in self.watched()
        )

    def back_at(self, alias: str) -> float:
        """When the database's last outage ended; minus infinity if there was none."""
        return self._back_at.get(alias, float("-inf"))

    def away_at(self, alias: str) -> float:
        """When the database's last outage began; minus infinity if there was none."""
        return self._away_at.get(alias, float("-inf"))

    def over_since(self, alias: str, moment: float) -> bool:
        """True if an outage began after ``moment`` and has ended: it explains what was lost."""
        return not self.is_away(alias) and self.away_at(alias) > moment

    def doubted_before(self, alias: str) -> float:
        """Connections from before this moment may be lost without anybody knowing."""
        return self._doubted.get(alias, float("-inf"))

    def doubt(self, alias: str) -> None:
        """Note that a connection to the database was lost: others may be, too."""
        self._doubted[alias] = time.monotonic()

    def began(self, part: QueryGuard, reason: str) -> None:
        """Note that ``part`` finds its database away; the first to do so says it."""
        alias = part.alias
        with self._lock:
            known = alias in self._failing
            self._failing.setdefault(alias, {})[part] = time.monotonic() + FRESH
        if not known:
            self._away_at[alias] = time.monotonic()
            self.doubt(alias)
            logger.error(
                "The database %r is away (%s); waiting until it is back.",
                alias,
                reason,
                extra={"action": "outage", "database": alias},
            )

    def does_not_know(self, part: QueryGuard) -> None:
        """Note that ``part`` has failed and has nothing to ask any more: others will tell."""
        with self._lock:
            failing = self._failing.get(part.alias, {})
            if part in failing:
                failing[part] = min(failing[part], time.monotonic() + FIRST_WAIT)

    def ended(self, part: QueryGuard) -> None:
        """Note that ``part`` has its answer; the outage is over when no other part fails."""
        alias, now = part.alias, time.monotonic()
        with self._lock:
            failing = self._failing.get(alias)
            if failing is None:
                return
            failing.pop(part, None)
            if any(until > now for until in failing.values()):
                return
            del self._failing[alias]
            self._back_at[alias] = now
        logger.warning(
            "The database %r is back.",
            alias,
            extra={"action": "outage_over", "database": alias},
        )


# A database that says "not now" for longer is as good as away.
LONGEST_CONTENTION = 5.0
# What takes longer than this to be answered may not be answered at all.
SLOW = 0.5
CANCEL_TIMEOUT = 1.0


class QueryGuards(dict[str, "QueryGuard"]):
    """The query guards of one part of a runner, by alias; others are made when first used."""

    def __init__(self, outages: OutageTracker, aliases: Iterable[str] = ()) -> None:
        super().__init__((alias, QueryGuard(outages, alias)) for alias in aliases)
        self._outages = outages

    def __missing__(self, alias: str) -> QueryGuard:
        self[alias] = QueryGuard(self._outages, alias)
        return self[alias]


class QueryGuard:
    """Guards the queries of one part of a runner to one database.

    A query that is not answered within its timeout is ended; after one that failed, ``retry_at``
    says when to try again (``time.monotonic()`` seconds).
    """

    def __init__(self, outages: OutageTracker, alias: str) -> None:
        self.alias = alias
        self.retry_at = float("-inf")
        self._outages = outages
        self._wait = 0.0
        self._contended_since: float | None = None
        self._lock = threading.Lock()
        self._timeout, self._longest_timeout = outages.query_timeouts
        self._wrapper: Any = None
        self._connection: Any = None
        self._connected_at = float("-inf")
        self._asked: float | None = None
        self._sent = float("inf")
        self._cancelled = self._without_timeout = False
        outages.watch(self)

    @contextmanager
    def asking(self, *, without_timeout: bool = False) -> Iterator[None]:
        """Watch the queries that the calling thread sends within this context.

        One ``without_timeout`` may take as long as it likes, unless there is an outage meanwhile,
        which its connection will hardly have survived.
        """
        with self._lock:
            self._asked = self._sent = time.monotonic()
            self._wrapper, self._cancelled = connections[self.alias], False
            self._without_timeout = without_timeout
        self._discard_leftover()
        try:
            yield
        finally:
            self._connection = self._wrapper.connection
            with self._lock:
                self._asked = None

    def is_waiting(self) -> bool:
        """Whether there has been no answer, or only "not now", for a while."""
        with self._lock:
            asked = None if self._without_timeout else self._asked
        now, contended = time.monotonic(), self._contended_since
        if asked is None:  # between two tries, or with nothing more to ask
            return contended is not None and now < self.retry_at + SLOW
        return now - (asked if contended is None else min(asked, contended)) > SLOW

    def end_overdue(self) -> None:
        """End a query that has gone unanswered for too long; called by another thread.

        The server is asked to cancel it, so that nothing is done there of which nobody hears. What
        does not end by that is cut off. The next query may take longer: the server may be slow.
        """
        with self._lock:
            if self._asked is None or time.monotonic() < self._asked + self._timeout:
                return
            if self._without_timeout:
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
        """Note that the calling thread's query failed; returns the seconds until the next try.

        Contention and a cancelled statement are worth another try soon, unless they last, and so
        is a connection from before the last outage, which it has not survived. Otherwise an outage
        is said. With jitter, so that a fleet does not come back all at once.
        """
        if (is_contention(error) or is_cancelled(error)) and not self._lasts():
            return self._try_again_in(FIRST_WAIT)
        discard(connections[self.alias])
        let_go(error)
        if not self._outages.is_away(self.alias) and self._is_a_leftover():
            return self._try_again_in(FIRST_WAIT)
        self._outages.began(self, str(error).strip() or type(error).__name__)
        if self._cancelled:
            self._timeout = min(2 * self._timeout, self._longest_timeout)
        self._wait = min(LONGEST_WAIT, self._wait * 2 or FIRST_WAIT)
        return self._try_again_in(self._wait * random.uniform(0.5, 1.0))

    def _try_again_in(self, seconds: float) -> float:
        self.retry_at = time.monotonic() + seconds
        return seconds

    def succeeded(self) -> None:
        """Note that the database answered."""
        self._contended_since = None
        if self._wait:
            self._wait = 0.0
            self._timeout = self._outages.query_timeouts[0]
        if self._outages.is_away(self.alias):
            self._outages.ended(self)

    def rest(self) -> None:
        """Note that there is nothing to ask any more: others find out when the database is back."""
        if self._outages.is_away(self.alias):
            self._outages.does_not_know(self)

    def connect(self) -> float:
        """Connect on the calling thread; returns the seconds until the next try, 0 for success."""
        self._connected_at = time.monotonic()
        try:
            connections[self.alias].ensure_connection()
        except (DatabaseError, InterfaceError) as error:
            return self.failed(error)
        self.succeeded()
        return 0.0

    def _discard_leftover(self) -> None:
        """Give up a connection from before the last outage: nobody may be at its other end."""
        if self._connection is not None and self._wrapper.connection is self._connection:
            if not self._is_a_leftover():
                return
            discard(self._wrapper)
        self._connected_at = self._sent

    def _is_a_leftover(self) -> bool:
        """Whether the connection is from before the last outage; True once for each outage."""
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


# A connection may be dead without anybody saying so: a network that swallows what is sent, a proxy
# that has lost the server. Who waits on it would wait for minutes, and the rows with it.

SHORTEST, LONGEST = 3.0, 10.0
LOOKS = 4


def query_timeouts(settings: RunnerSettings) -> tuple[float, float]:
    """Seconds that a query may take, at first, and once the database was just slow.

    The first is short enough for another try before leases lapse and checks overrun; the last, for
    the main loop not to be taken for stalled.
    """
    first = max(SHORTEST, min(LONGEST, settings.lease / 3, settings.deadline / 2))
    return first, max(first, settings.watchdog_interval / 2)


class QueryWatchdog(threading.Thread):
    """Ends the queries of a runner that are overdue, looking several times in their timeout."""

    def __init__(self, outages: OutageTracker) -> None:
        super().__init__(name="fsmworker-queries", daemon=True)
        self._outages = outages
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._outages.query_timeouts[0] / LOOKS):
            for part in self._outages.watched():
                part.end_overdue()

    def stop(self, timeout: float) -> None:
        """End the thread, and wait until it has ended, for ``timeout`` seconds at the most."""
        self._stopped.set()
        if self.is_alive():
            self.join(timeout)
