"""Hears the hints of other processes, and tries out whether it would hear them."""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from django_fsmworker.models.hinting import NOW, SWEEP, WINDOW, sent
from django_fsmworker.runner.claiming.claimer import Claimer
from django_fsmworker.runner.database.connections import discard, use_own_connections
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.store import Store
from django_fsmworker.store.errors import is_contention, is_outage
from django_fsmworker.store.hints import EVERY_MODEL, Listener, hints_for
from django_fsmworker.store.hints import Hints as Source

logger = logging.getLogger(__name__)

LONGEST_WAIT = 1.0
PROBE = "?"
PROBE_INTERVAL = 60.0
PROBE_PATIENCE = 5.0
RECONNECT_WAIT = 1.0

Nothing = Callable[[], None]


class Hints:
    """What a runner hears, from all its databases. With hints off it hears nothing and says so."""

    def __init__(
        self,
        stores: Mapping[Any, Store],
        enabled: bool,
        claimer: Claimer,
        on_sweep: Callable[[Any], None],
        wake: Nothing,
        outages: Outages,
    ) -> None:
        models: dict[str, dict[str, Any]] = {}
        for model, store in stores.items() if enabled else ():
            models.setdefault(store.alias, {})[model._meta.label] = model
        self._aliases = {store.alias for store in stores.values()}
        self._sent_before = self._sent_so_far()
        sources = {alias: hints_for(alias) for alias in models}
        self._silent = [alias for alias, source in sources.items() if source is None]
        self._threads = [
            Hearing(source, models[alias], claimer, on_sweep, wake, outages)
            for alias, source in sources.items()
            if source is not None
        ]
        for store in set(stores.values()):
            store.session_lasts = partial(self._arrive_from, store.alias)

    @property
    def active(self) -> bool:
        """Whether hints of every database arrive; otherwise polling finds what they would tell."""
        listening = bool(self._threads) and not self._silent
        return listening and all(thread.active for thread in self._threads)

    def _arrive_from(self, alias: str) -> bool:
        """Whether hints of one database arrive; what is said to a session there is kept."""
        return any(thread.active and thread.alias == alias for thread in self._threads)

    @property
    def received(self) -> int:
        """How many hints arrived."""
        return sum(thread.received for thread in self._threads)

    @property
    def sent(self) -> int:
        """How many this process has sent since the runner was built, whoever in it did."""
        return self._sent_so_far() - self._sent_before

    def start(self) -> None:
        """Listen from now on."""
        for alias in self._silent:
            logger.info(
                "The database %r has no hints; what other processes make due is found by polling.",
                alias,
                extra={"action": "hints_off", "database": alias},
            )
        for thread in self._threads:
            thread.start()

    def probe(self) -> None:
        """Called by the main loop, whose connection is another one than the listeners'."""
        for thread in self._threads:
            thread.probe()

    def stop(self) -> None:
        """Let the threads end."""
        for thread in self._threads:
            thread.stop()

    def is_alive(self) -> bool:
        """Whether a thread has not ended yet."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, timeout: float) -> None:
        """Wait for them, so many seconds for each."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout)

    def _sent_so_far(self) -> int:
        return sum(sent[alias] for alias in self._aliases)


class Hearing(threading.Thread):
    """Listens to one database.

    A pooler between here and the database may swallow what it says to a connection that just
    listens. So every minute a probe is sent on another connection: if it does not come back, there
    are no hints, and the next try is a minute later.
    """

    def __init__(
        self,
        source: Source,
        models: Mapping[str, Any],
        claimer: Claimer,
        on_sweep: Callable[[Any], None],
        wake: Nothing,
        outages: Outages,
    ) -> None:
        super().__init__(name="fsmworker-hints", daemon=True)
        self._stopped = threading.Event()
        self.active = False
        self.received = 0
        self.alias = source.alias
        self._source = source
        self._models = models
        self._claimer = claimer
        self._on_sweep = on_sweep
        self._wake = wake
        self._backoff = outages.backoff(source.alias)
        self._probing = outages.backoff(source.alias)
        self._listener: Listener | None = None
        self._said_deaf = False
        self._expected: str | None = None
        self._answer_by = float("inf")
        self._next_probe = 0.0
        self._look_again_at = float("inf")
        self._soon = False
        self._swept: set[Any] = set()

    def run(self) -> None:
        wait = 0.0
        use_own_connections(beside_pool=True)
        while not self._stopped.wait(wait):
            try:
                wait = self._listen()
            except (DatabaseError, InterfaceError) as error:
                wait = self._failed(error)
            except Exception:
                logger.exception("Listening for hints failed.", extra={"action": "hints_failed"})
                wait = PROBE_INTERVAL
            finally:
                self._close()

    def stop(self) -> None:
        """Let the thread end."""
        self._stopped.set()
        listener = self._listener
        if listener is not None:
            listener.interrupt()

    def probe(self) -> None:
        """Send a probe on the calling thread's connection if it is time for one."""
        now = time.monotonic()
        due = self._source.may_be_deaf and self._expected is None and now >= self._next_probe
        if self._listener is None or not due:
            return
        self._next_probe = now + PROBE_INTERVAL
        self._answer_by = now + PROBE_PATIENCE
        self._expected = f"{PROBE} {secrets.token_hex(8)}"
        try:
            with self._probing.asking():
                if self._source.notify(self._expected):
                    return
        except Exception as error:
            logger.debug("A probe was not sent (%s).", error, extra={"action": "hint"})
        finally:
            self._probing.rest()
        self._expected, self._next_probe = None, now + RECONNECT_WAIT

    def _listen(self) -> float:
        """Listen until told to stop, or deaf; returns the seconds until the next try."""
        self._expected, self._next_probe = None, 0.0
        self._listener = listener = self._source.listen()
        self._backoff.succeeded()
        self.active = not self._source.may_be_deaf
        self._look_everywhere()  # what was said before nobody heard; and the loop shall probe
        while not self._stopped.is_set():
            now = time.monotonic()
            heard = listener.wait(min(LONGEST_WAIT, max(0.0, self._look_again_at - now)))
            for payload in heard:
                self._hear(payload)
            if time.monotonic() >= self._look_again_at:
                self._look_again()
            if not heard and self._unanswered():
                self._deaf("what is sent to this connection does not arrive")
                return PROBE_INTERVAL
        return 0.0

    def _hear(self, payload: str) -> None:
        label, _, kind = payload.partition(" ")
        if label == PROBE:
            if payload == self._expected:
                self._answered()
            return
        if label != EVERY_MODEL and label not in self._models:
            return
        self.received += 1
        if kind == NOW:
            self._claimer.hinted(self._models[label])
        elif kind == SWEEP:
            self._swept.add(self._models[label])
            self._on_sweep(self._models[label])
        else:
            self._soon = True
            self._claimer.look_again(soon=True)
        if label == EVERY_MODEL:
            self._sweep(self._models.values())
        if self._source.may_be_deaf:
            self._look_again_at = time.monotonic() + WINDOW  # for what its sender left unsaid
        self._wake()

    def _look_again(self) -> None:
        soon, self._soon, self._look_again_at = self._soon, False, float("inf")
        self._sweep(self._swept)
        self._swept.clear()
        self._claimer.look_again(soon)
        self._wake()

    def _sweep(self, models: Iterable[Any]) -> None:
        for model in models:
            self._on_sweep(model)

    def _look_everywhere(self) -> None:
        for model in self._models.values():
            self._claimer.hinted(model)
        self._sweep(self._models.values())
        self._look_again()

    def _answered(self) -> None:
        self._expected, self.active = None, True
        if self._said_deaf:
            self._said_deaf = False
            logger.info(
                "Hints of the database %r arrive again.",
                self._source.alias,
                extra={"action": "hints_on", "database": self._source.alias},
            )

    def _unanswered(self) -> bool:
        return self._expected is not None and time.monotonic() > self._answer_by

    def _deaf(self, reason: object) -> None:
        if not self._said_deaf:
            self._said_deaf = True
            logger.info(
                "Hints of the database %r do not arrive (%s); what other processes make due is "
                "found by polling.",
                self._source.alias,
                reason,
                extra={"action": "hints_off", "database": self._source.alias},
            )

    def _failed(self, error: Exception) -> float:
        """The connection was lost, or there is none; seconds until the next try."""
        if self._listener is not None or is_contention(error):
            return RECONNECT_WAIT * random.uniform(0.5, 1.0)
        if is_outage(error):
            return self._backoff.failed(error)
        self._deaf(str(error).strip())
        return PROBE_INTERVAL

    def _close(self) -> None:
        self.active = False
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        discard(connections[self._source.alias])
