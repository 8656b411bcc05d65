"""A thread's database connections between attempts.

A thread keeps its connection: reconnecting for every attempt halves the throughput. It gives one
up when the driver has seen an error on it, when user code has changed its session, when it is aged,
when it came from a pool (Django's has four connections by default), or when the thread has had
nothing to do for long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from django.db import Error, connections

from django_fsmworker.store.drivers import cut, discard, driver_of
from django_fsmworker.store.session_watch import SessionWatch, session_changed

OLDEST = 600.0
LONGEST_IDLE = 60.0

# Seconds in which a connection has to open; the drivers' own patience is minutes.
CONNECT_TIMEOUT = 3

StatementLimits = Mapping[str, float]
"""By alias, seconds after which the server ends a statement by itself."""

NO_LIMITS: StatementLimits = MappingProxyType({})


def use_own_connections(
    *,
    beside_pool: bool,
    for_user_code: bool = False,
    shared: bool = False,
    limits: StatementLimits = NO_LIMITS,
) -> list[Any]:
    """Give the calling thread connections that do not take minutes to open, one a database.

    Those of the engine's own threads are opened beside Django's pool: it may be small, it is the
    checks', and after an outage it may take a minute to try again. Those ``for_user_code`` are
    watched for what it leaves in its session. Those that are ``shared`` by several checks at a time
    keep no result open in a file. ``limits`` are those of their statements.
    """
    for alias in connections:
        wrapper = connections[alias]
        connections[alias] = _own(wrapper, beside_pool, for_user_code, shared, limits)
    return [connections[alias] for alias in connections]


@contextmanager
def own_connections(aliases: Collection[str]) -> Iterator[None]:
    """Connections of its own for the calling thread, which gets its old ones back afterwards."""
    before = {alias: connections[alias] for alias in connections}
    own = [each for each in use_own_connections(beside_pool=True) if each.alias in aliases]
    try:
        yield
    finally:
        # Others may have taken the place of those meanwhile.
        for wrapper in [*own, *(connections[alias] for alias in aliases)]:
            discard(wrapper)
        for alias, wrapper in before.items():
            connections[alias] = wrapper


def _own(
    wrapper: Any, beside_pool: bool, for_user_code: bool, shared: bool, limits: StatementLimits
) -> Any:
    driver = driver_of(wrapper)
    if not driver.connects_to_server and not for_user_code:
        return wrapper
    own = wrapper.copy()
    own.execute_wrappers = wrapper.execute_wrappers
    if for_user_code:
        SessionWatch(own)
    if shared and not driver.connects_to_server:
        # A result that is read bit by bit holds its snapshot, in which nobody else here can write.
        own.features.can_use_chunked_reads = False
    if driver.connects_to_server:
        driver.limit_connecting(own, CONNECT_TIMEOUT)
        if for_user_code:  # which is interrupted
            driver.open_undisturbed(own)
        if beside_pool:
            own.settings_dict["OPTIONS"].pop("pool", None)
        if beside_pool and not for_user_code:
            driver.read_committed(own)
        pooled = own.settings_dict["OPTIONS"].get("pool")
        if own.alias in limits and not pooled:  # a pool's connections are not only ours
            driver.limit_statements(own, limits[own.alias])
    return own


class ThreadConnections:
    """The calling thread's connections; create it in the thread that uses it."""

    def __init__(
        self,
        *,
        beside_pool: bool = False,
        for_user_code: bool = False,
        shared: bool = False,
        limits: StatementLimits = NO_LIMITS,
    ) -> None:
        self._beside_pool, self._shared, self._limits = beside_pool, shared, limits
        self._all = use_own_connections(
            beside_pool=beside_pool, for_user_code=for_user_code, shared=shared, limits=limits
        )
        self._since: dict[int, tuple[Any, float]] = {}
        self._retired: list[Any] = []

    def use(self) -> None:
        """Let the calling thread, which has made them, use these from here on."""
        for wrapper in self._all:
            connections[wrapper.alias] = wrapper

    def after_attempt(self, keep: bool = False) -> None:
        """Leave the connections as the next attempt expects them.

        With ``keep`` none is closed that still works: somebody may be reading from it.
        """
        if self._retired and not keep:
            self._close_retired()
        if len(connections.databases) > len(self._all):
            self._close_others()
        for wrapper in tuple(self._all):
            watch = getattr(wrapper, "session_watch", None)
            if watch is not None and wrapper.execute_wrappers != watch.at_rest:
                watch.restore()
            if wrapper.connection is None:
                self._since.pop(id(wrapper), None)
                continue
            if wrapper.queries_log:
                wrapper.queries_log.clear()
            # One that has seen an error is not asked whether it works: the answer may never come,
            # and no deadline watches this.
            if _is_of_no_use(wrapper) or (wrapper.errors_occurred and not keep):
                discard(wrapper)
            elif session_changed(wrapper):
                if keep:
                    self._retire(wrapper)
                else:
                    discard(wrapper)
            elif self._is_to_close(wrapper) and not keep:
                _close(wrapper, wrapper.close)
            elif wrapper.errors_occurred:
                _close(wrapper, wrapper.close_if_unusable_or_obsolete)

    def drop_older_than(self, moment: Callable[[str], float]) -> None:
        """Give up those from before a moment of their database's, when others were lost.

        They may be lost, too, and nobody knows: who uses one finds out, or waits in vain.
        """
        for wrapper in self._all if self._since else ():  # most checks use none
            raw, since = self._since.get(id(wrapper), (None, 0.0))
            if raw is not None and raw is wrapper.connection and since < moment(wrapper.alias):
                discard(wrapper)

    def close(self) -> None:
        """Give all of them up; a broken one is forgotten."""
        self._close_retired()
        for wrapper in self._all:
            discard(wrapper)

    def _retire(self, wrapper: Any) -> None:
        """Put another connection in the place of one from which somebody may still be reading."""
        new = _own(wrapper, self._beside_pool, True, self._shared, self._limits)
        self._all[self._all.index(wrapper)] = connections[wrapper.alias] = new
        self._retired.append(wrapper)

    def _close_others(self) -> None:
        """Close those to databases that user code has added to ``connections.databases``."""
        for wrapper in connections.all(initialized_only=True):
            if wrapper not in self._all:
                discard(wrapper)

    def _close_retired(self) -> None:
        while self._retired:
            discard(self._retired.pop())

    def left_open(self) -> bool:
        """Whether the attempt began a transaction and did not end it."""
        for wrapper in self._all:  # a loop: asked after every check
            if wrapper.connection is not None and _in_transaction(wrapper):
                return True
        return False

    def lost(self) -> bool:
        """Whether a database went away under the attempt."""
        return any(self._was_lost(wrapper) for wrapper in self._all)

    def cancel(self) -> None:
        """End whatever statement runs on them; called from another thread."""
        for wrapper in self._all:
            if wrapper.connection is not None:
                driver_of(wrapper).cancel(wrapper)

    def cut(self) -> bool:
        """Let go of those that can be let go of, for a thread that waits for a server in vain."""
        return True in [cut(wrapper) for wrapper in self._all]

    def _was_lost(self, wrapper: Any) -> bool:
        # Leaving a transaction that could not be rolled back, Django has reconnected already. A
        # connection that its owner closed is not broken.
        known, _ = self._since.get(id(wrapper), (None, 0.0))
        if getattr(known, "broken", False):
            return True
        if not wrapper.errors_occurred:
            return bool(getattr(wrapper.connection, "closed", False))
        if wrapper.connection is None:
            return not _answers(wrapper)
        # The driver may have read the server's farewell, but not seen the connection end yet.
        return not wrapper.is_usable() and bool(getattr(wrapper.connection, "closed", False))

    def _is_to_close(self, wrapper: Any) -> bool:
        pooled = wrapper.settings_dict["OPTIONS"].get("pool", False)
        return pooled or self._age(wrapper) > OLDEST

    def _age(self, wrapper: Any) -> float:
        raw, since = self._since.get(id(wrapper), (None, 0.0))
        if raw is not wrapper.connection:
            since = time.monotonic()
            self._since[id(wrapper)] = wrapper.connection, since
        return time.monotonic() - since


def _close(wrapper: Any, close: Callable[[], None]) -> None:
    """Close a connection that its user may have closed already, behind Django's back."""
    try:
        close()
    except Error:
        discard(wrapper)


def _is_of_no_use(wrapper: Any) -> bool:
    """Whether user code left a transaction open, or closed the connection behind Django's back."""
    return _in_transaction(wrapper) or driver_of(wrapper).is_closed(wrapper)


def _in_transaction(wrapper: Any) -> bool:
    """Whether a transaction is open, also one that was begun behind Django's back."""
    if wrapper.in_atomic_block or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]:
        return True
    return driver_of(wrapper).is_in_transaction(wrapper)


def _answers(wrapper: Any) -> bool:
    try:
        wrapper.ensure_connection()
    except Error:
        return False
    return True
