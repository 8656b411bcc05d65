"""The listening for hints of other processes, and the proof that they would arrive."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from django_fsmworker.logs import logger_for
from django_fsmworker.models.hints import (
    EVERY_MODEL,
    NOW,
    PAUSED,
    REVOKED,
    SOON,
    SWEEP,
    WINDOW,
    Hint,
    sent,
)
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.runner.claiming.claimer import Claimer
from django_fsmworker.runner.database.connections import use_own_connections
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuard
from django_fsmworker.store import Store
from django_fsmworker.store.drivers import discard
from django_fsmworker.store.errors import is_contention, is_outage
from django_fsmworker.store.hints import HintTransport, Listener, hint_transport_for

logger = logger_for(__name__)

LONGEST_WAIT = 1.0
PROBE_INTERVAL = 60.0
PROBE_PATIENCE = 5.0
RECONNECT_WAIT = 1.0

# So many looks at a model may follow hints without a pause; from there on it is one in a window,
# however many hints there are.
BURST = 5


class HintListeners:
    """The hints that a runner receives, from all its databases; none if they are not enabled."""

    def __init__(
        self,
        stores: Mapping[Any, Store],
        enabled: bool,
        claimer: Claimer,
        on_sweep: Callable[[Any], None],
        on_revoked: Callable[[Any], None],
        on_orders: Callable[[], None],
        wake: Callable[[], None],
        outages: OutageTracker,
    ) -> None:
        models: dict[str, dict[str, list[Any]]] = {}
        for model, store in stores.items() if enabled else ():
            label = declaring_model(model)._meta.label  # the events of many models have one
            models.setdefault(store.alias, {}).setdefault(label, []).append(model)
        self._aliases = {store.alias for store in stores.values()}
        self._sent_before = self._sent_so_far()
        transports = {alias: hint_transport_for(alias) for alias in models}
        self._silent = [alias for alias, transport in transports.items() if transport is None]
        self._threads = [
            HintListener(
                transport, models[alias], claimer, on_sweep, on_revoked, on_orders, wake, outages
            )
            for alias, transport in transports.items()
            if transport is not None
        ]
        for store in set(stores.values()):
            store.keeps_sessions(partial(self._arrive_from, store.alias))

    @property
    def active(self) -> bool:
        """Whether hints of every database arrive; otherwise polling finds what they would tell."""
        listening = bool(self._threads) and not self._silent
        return listening and all(thread.active for thread in self._threads)

    @property
    def tell_of_orders(self) -> bool:
        """Whether orders to workers are heard of at once, in every database."""
        return self.active and all(thread.is_sent for thread in self._threads)

    @property
    def received(self) -> int:
        """How many hints arrived that concern this runner's models."""
        return sum(thread.received for thread in self._threads)

    @property
    def unknown(self) -> int:
        """How many messages arrived that are no hints; they are ignored."""
        return sum(thread.unknown for thread in self._threads)

    @property
    def sent(self) -> int:
        """How many hints this process has sent since the runner was built, whoever in it did."""
        return self._sent_so_far() - self._sent_before

    def unheard(self, alias: str) -> AbstractContextManager[None]:
        """A context in which what the calling thread writes wakes nobody here, if that can be."""
        for thread in self._threads:
            if thread.alias == alias:
                return thread.unheard()
        return nullcontext()

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
        """Send the probes that are due, on the main loop's connections, not the listeners'."""
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
        """Wait until the threads have ended, at most ``timeout`` seconds for each."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout)

    def _arrive_from(self, alias: str) -> bool:
        """Whether hints of one database arrive; what is said to a session there is kept."""
        return any(thread.active and thread.alias == alias for thread in self._threads)

    def _sent_so_far(self) -> int:
        return sum(sent[alias] for alias in self._aliases)


@dataclass(slots=True)
class LookSchedule:
    """When hints of one urgency make a runner look at one model.

    It looks at once, and again ``again_after`` seconds later, for what the sender of the hint left
    unsaid meanwhile. The looks of a flood are one window apart. Times are ``time.monotonic()``.
    """

    again_after: float
    again_at: float = float("inf")
    asked: bool = False
    spent_until: float = float("-inf")

    @property
    def next_at(self) -> float:
        """When the next look that a hint asked for may be taken."""
        return self.spent_until - BURST * WINDOW if self.asked else float("inf")

    def looked(self, now: float) -> None:
        """Note that a look which was asked for has been taken."""
        self.asked = False
        self.spent_until = max(now, self.spent_until) + WINDOW
        self.again_at = now + self.again_after


class HintListener(threading.Thread):
    """The thread that listens to one database.

    A pooler between here and the database may accept LISTEN and pass nothing on. So every minute a
    probe is sent on another connection: if it does not come back, there are no hints, and the next
    try is a minute later.
    """

    def __init__(
        self,
        transport: HintTransport,
        models: Mapping[str, Sequence[Any]],
        claimer: Claimer,
        on_sweep: Callable[[Any], None],
        on_revoked: Callable[[Any], None],
        on_orders: Callable[[], None],
        wake: Callable[[], None],
        outages: OutageTracker,
    ) -> None:
        super().__init__(name="fsmworker-hints", daemon=True)
        self._stopped = threading.Event()
        self.active = False
        self.received = self.unknown = 0
        self.alias = transport.alias
        self.is_sent = transport.is_sent
        self._transport = transport
        self._models = models
        self._all_models = [model for some in models.values() for model in some]
        self._claimer = claimer
        self._on_sweep = on_sweep
        self._on_revoked = on_revoked
        self._on_orders = on_orders
        self._wake = wake
        self._query_guard = QueryGuard(outages, self.alias)
        self._probe_guard = QueryGuard(outages, self.alias)
        self._listener: Listener | None = None
        self._said_deaf = False
        self._expected: Hint | None = None
        self._answer_by = float("inf")
        self._next_probe = 0.0
        again_after = WINDOW if transport.is_sent else float("inf")
        self._looks = {
            (model, urgency): LookSchedule(again_after)
            for model in self._all_models
            for urgency in (PAUSED, NOW, SOON, SWEEP, REVOKED)  # of pauses before any claim
        }

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

    def unheard(self) -> AbstractContextManager[None]:
        """A context in which what the calling thread writes does not arrive here, if possible."""
        listener = self._listener
        return nullcontext() if listener is None else listener.unheard(connections[self.alias])

    def probe(self) -> None:
        """Send a probe on the calling thread's connection if it is time for one."""
        now = time.monotonic()
        due = self._transport.is_sent and self._expected is None and now >= self._next_probe
        if self._listener is None or not due:
            return
        self._next_probe = now + PROBE_INTERVAL
        self._answer_by = now + PROBE_PATIENCE
        self._expected = Hint.probe()
        try:
            with self._probe_guard.asking():
                if self._transport.send(self._expected):
                    return
        except Exception as error:
            logger.debug("A probe was not sent (%s).", error, extra={"action": "hint"})
        finally:
            self._probe_guard.rest()
        self._expected, self._next_probe = None, now + RECONNECT_WAIT

    def _listen(self) -> float:
        """Listen until told to stop, or deaf; returns the seconds until the next try."""
        self._expected, self._next_probe = None, 0.0
        self._listener = listener = self._transport.listen()
        self._query_guard.succeeded()
        self.active = not self._transport.is_sent
        self._look_everywhere()
        while not self._stopped.is_set():
            arrived = listener.wait(self._seconds_to_wait())
            self._take(arrived)
            self._look_where_due()
            if not arrived and self._unanswered():
                self._deaf("what is sent to this connection does not arrive")
                return PROBE_INTERVAL
        return 0.0

    def _seconds_to_wait(self) -> float:
        due = min(min(look.next_at, look.again_at) for look in self._looks.values())
        return min(LONGEST_WAIT, max(0.0, due - time.monotonic()))

    def _take(self, arrived: list[Hint | None]) -> None:
        """Note what the hints ask for, and no more: there may be thousands a second."""
        for hint, number in Counter(arrived).items():
            if hint is None:
                self.unknown += number
            elif hint.is_probe:
                if hint == self._expected:
                    self._answered()
            elif hint.is_for_workers:
                self.received += number
                self._on_orders()
            elif hint.label == EVERY_MODEL:  # its sender does not know what has changed
                self.received += number
                self._ask(self._all_models, {hint.urgency, SWEEP, REVOKED})
            elif hint.label in self._models:
                self.received += number
                self._ask(self._models[hint.label], {hint.urgency})

    def _ask(self, models: Iterable[Any], urgencies: Iterable[str]) -> None:
        for key in product(models, urgencies):
            self._looks[key].asked = True

    def _look_where_due(self) -> None:
        now = time.monotonic()
        for (model, urgency), look in self._looks.items():
            if now >= look.next_at:
                look.looked(now)
                self._look(model, urgency)
            elif now >= look.again_at:
                look.again_at = float("inf")
                self._look(model, urgency, again=True)

    def _look(self, model: Any, urgency: str, *, again: bool = False) -> None:
        if urgency == SWEEP:
            self._on_sweep(model)
        elif urgency == REVOKED:
            self._on_revoked(model)
            return  # nothing to claim yet: the main loop sleeps on
        elif urgency == PAUSED:
            self._claimer.look_at_pauses()
        elif urgency == NOW and not again:
            self._claimer.hinted(model)
        else:
            self._claimer.look_again(soon=urgency == SOON)
        self._wake()

    def _look_everywhere(self) -> None:
        """Ask about all models, since hints sent before LISTEN were missed; the loop will probe.

        Who sent one just before says nothing for a window, so there is another look after that.
        """
        now = time.monotonic()
        for model in self._all_models:
            self._look(model, NOW)
            self._look(model, SWEEP)
            self._look(model, REVOKED)
            self._look(model, PAUSED)
            look = self._looks[model, NOW]
            look.again_at = now + look.again_after
        self._claimer.look_again()

    def _answered(self) -> None:
        self._expected, self.active = None, True
        if self._said_deaf:
            self._said_deaf = False
            logger.info(
                "Hints of the database %r arrive again.",
                self.alias,
                extra={"action": "hints_on", "database": self.alias},
            )

    def _unanswered(self) -> bool:
        return self._expected is not None and time.monotonic() > self._answer_by

    def _deaf(self, reason: object) -> None:
        if not self._said_deaf:
            self._said_deaf = True
            logger.info(
                "Hints of the database %r do not arrive (%s); what other processes make due is "
                "found by polling.",
                self.alias,
                reason,
                extra={"action": "hints_off", "database": self.alias},
            )

    def _failed(self, error: Exception) -> float:
        """The connection was lost, or there is none; seconds until the next try."""
        if self._listener is not None or is_contention(error):
            return RECONNECT_WAIT * random.uniform(0.5, 1.0)
        if is_outage(error):
            return self._query_guard.failed(error)
        self._deaf(str(error).strip())
        return PROBE_INTERVAL

    def _close(self) -> None:
        self.active = False
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        discard(connections[self.alias])
