"""Writes outcomes back: all that are ready in one statement, while the next are being produced."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db import DatabaseError, InterfaceError

from django_fsmworker.models.moving import resolve_failures
from django_fsmworker.runner.counters import INTERRUPTED, SUPERSEDED, Counters
from django_fsmworker.runner.database.backing_off import Backoffs
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.settling.running_on import Pair, RunOn
from django_fsmworker.runner.settling.writing import log_failures, refused, tell, write_split
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.runner.work.holdings import Holdings
from django_fsmworker.store import Kind, Outcome, Store
from django_fsmworker.store.errors import is_refusal
from django_fsmworker.store.failures import take_back_death

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 1000
AGAIN_WAIT = 0.2

Item = tuple[Attempt, Outcome | None]


class Settler(threading.Thread):
    """One thread, one connection; group commit without a timer.

    An outcome of None hands the row back: it was interrupted, nothing is counted. Rows that a write
    did not change are looked at once more: locked by somebody, they go with the next batch;
    otherwise the attempt was superseded, which is counted, and its outcome dropped.
    """

    def __init__(
        self,
        holdings: Holdings,
        counters: Counters,
        outages: Outages,
        worker: str,
        on_settled: Callable[[Any, list[Outcome]], None],
        run_on: RunOn,
        on_go_on: Callable[[list[Attempt]], None],
    ) -> None:
        super().__init__(name="fsmworker-settler", daemon=True)
        self._holdings = holdings
        self._counters = counters
        self._worker = worker
        self._on_settled = on_settled
        self._run_on = run_on
        self._on_go_on = on_go_on
        # What attempts came to is put in by the threads that ran them.
        self.inbox: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._backoffs = Backoffs(outages)
        self._again: list[Item] = []
        self._give_up_at: float | None = None
        self.settled = [0, 0]  # shares of places: of sync checks, of async ones

    def stop(self, timeout: float) -> None:
        """Write what there is, for at most ``timeout`` seconds, and end."""
        self._give_up_at = time.monotonic() + timeout
        self.inbox.put(None)
        self.join(timeout + 1)

    def run(self) -> None:
        own = ThreadConnections(beside_pool=True)
        try:
            stopping = False
            while not stopping or (self._again and not self._out_of_time()):
                batch, stop = self._next_batch(block=not stopping)
                stopping = stopping or stop
                for (store, model), items in self._grouped(batch).items():
                    self._settle_group(store, model, items)
            if self._again:
                self._lose(self._again, "the database did not take them in time")
        finally:
            own.close()

    def _next_batch(self, block: bool) -> tuple[list[Item], bool]:
        """Everything that is ready. What has to be tried again goes with it, or after a while."""
        batch, self._again = self._again, []
        wait = AGAIN_WAIT if batch else None
        stop = False
        try:
            item = self.inbox.get(timeout=wait if block else AGAIN_WAIT)
            while item is not None:
                batch.append(item)
                if len(batch) >= MOST_AT_ONCE:
                    return batch, stop
                item = self.inbox.get_nowait()
            stop = True
        except queue.Empty:
            pass
        return batch, stop

    def _grouped(self, batch: list[Item]) -> dict[tuple[Store, Any], list[Item]]:
        """By table, and each row once: a second attempt at it goes with the next batch."""
        groups: dict[tuple[Store, Any], dict[Any, Item]] = {}
        for item in batch:
            attempt, _ = item
            group = groups.setdefault((attempt.store, attempt.model), {})
            if group.setdefault(attempt.pk, item) is not item:
                self._again.append(item)
        return {key: list(group.values()) for key, group in groups.items()}

    def _settle_group(self, store: Store, model: Any, items: list[Item]) -> None:
        backoff = self._backoffs[store.alias]
        live = [item for item in items if not (item[0].superseded or item[0].settled)]
        self._holdings.remove(attempt for attempt, _ in items if attempt.superseded)
        if not live:
            backoff.rest()
            return
        if time.monotonic() < backoff.retry_at:
            self._again += live
            return
        try:
            self._write(store, model, live)
            backoff.succeeded()
        except (DatabaseError, InterfaceError) as error:
            # An outage keeps outcomes: the fence decides when the database is back.
            backoff.failed(error)
            self._again += live
        except Exception as error:
            # Not the database's doing: trying again would not help, and other rows wait.
            logger.exception("Outcomes could not be written.", extra={"action": "unwritten"})
            self._lose(live, error)

    def _write(self, store: Store, model: Any, items: list[Item]) -> None:
        asking = self._backoffs[store.alias].asking
        with asking():
            self._hand_back(store, model, [each for each, outcome in items if outcome is None])
        pairs = [(attempt, outcome) for attempt, outcome in items if outcome is not None]
        self._conclude(store, model, [pair for pair in pairs if pair[1].written])
        pairs = [pair for pair in pairs if not pair[1].written]
        onward, pairs = self._run_on.parted(pairs)
        pairs += self._go_on(store, model, onward)
        if not pairs:
            return
        with asking():
            outcomes = [outcome for _, outcome in pairs]
            keys, replaced, lost = self._write_all(store, model, outcomes)
        self._drop(model, lost, pairs)
        if replaced:
            pairs = [(attempt, replaced.get(outcome.pk, outcome)) for attempt, outcome in pairs]
        self._conclude(store, model, [pair for pair in pairs if pair[1].pk in keys])
        missing = [pair for pair in pairs if pair[1].pk not in keys]
        with asking():
            self._look_again(store, model, [pair for pair in missing if not pair[0].superseded])

    def _go_on(self, store: Store, model: Any, pairs: list[Pair]) -> list[Pair]:
        """Write what goes on at once; returns what has to be written like any other outcome."""
        if not pairs:
            return []
        try:
            with self._backoffs[store.alias].asking():
                attempts = self._run_on.write(store, model, pairs)
        except DatabaseError as error:
            if not is_refusal(error):
                raise
            return pairs
        keys = {attempt.pk for attempt in attempts}
        for _, outcome in pairs:
            outcome.kept = outcome.pk in keys
        self._holdings.add(attempts)
        self._conclude(store, model, [pair for pair in pairs if pair[1].pk in keys])
        self._on_go_on(attempts)
        return [pair for pair in pairs if pair[1].pk not in keys]

    def _write_all(
        self, store: Store, model: Any, outcomes: list[Outcome]
    ) -> tuple[set[Any], dict[Any, Outcome], list[Any]]:
        """Write the batch; what the database refuses fails instead, and then parks.

        Returns the keys written, the outcomes that were replaced, and the keys of rows that the
        database lets nobody write.
        """
        keys: set[Any] = set()
        replaced: dict[Any, Outcome] = {}
        for _ in range(3):
            written, not_taken = write_split(store, model, outcomes, self._worker)
            keys |= written
            if not not_taken:
                return keys, replaced, []
            outcomes = [refused(outcome, error) for outcome, error in not_taken]
            replaced |= {outcome.pk: outcome for outcome in outcomes}
        return keys, replaced, [outcome.pk for outcome in outcomes]

    def _conclude(self, store: Store, model: Any, pairs: list[tuple[Attempt, Outcome]]) -> None:
        """These rows are written and free."""
        if not pairs:
            return
        settled, noted = self.settled, []
        for attempt, outcome in pairs:
            attempt.settled = True
            settled[attempt.is_async] += attempt.share
            if attempt.noted and outcome.failure is None:
                noted.append(attempt)
        outcomes = [outcome for _, outcome in pairs]
        kinds = [outcome.kind for outcome in outcomes]
        for kind in Kind:
            self._counters.add(model, kind.value, kinds.count(kind))
        log_failures(model, outcomes)
        try:
            tell(model, outcomes, store.alias)
        except BaseException:  # Django catches what receivers raise, except what would end a thread
            logger.exception("A signal's receiver failed.", extra={"action": "receiver"})
        self._on_settled(model, outcomes)
        self._holdings.remove(attempt for attempt, _ in pairs)
        self._take_back_notes(store, model, noted)

    def _take_back_notes(self, store: Store, model: Any, attempts: list[Attempt]) -> None:
        """It was noted that their check did not end; it did, and they have not failed."""
        if attempts:
            resolve_failures(model, [attempt.pk for attempt in attempts], store.alias)

    def _look_again(self, store: Store, model: Any, pairs: Sequence[Item]) -> None:
        if not pairs:
            return
        held = store.still_held(model, [attempt.hold for attempt, _ in pairs])
        self._again += [pair for pair in pairs if pair[0].pk in held]
        lost = [attempt for attempt, _ in pairs if attempt.pk not in held]
        if lost:
            # Moved by a plain update(), a row still carries our token: it shall not lapse.
            store.hand_back(model, [attempt.hold for attempt in lost])
            self.supersede(lost)

    def _hand_back(self, store: Store, model: Any, attempts: list[Attempt]) -> None:
        if not attempts:
            return
        freed = store.hand_back(model, [attempt.hold for attempt in attempts])
        done = [attempt for attempt in attempts if attempt.pk in freed]
        self._counters.add(model, INTERRUPTED, len(done))
        for attempt in done:
            attempt.superseded = True  # whatever its thread still does changes nothing
        spared = [each.pk for each in done if each.suspect and each.started is not None]
        if spared:
            take_back_death(store.alias, model, spared)
        self._holdings.remove(done)
        self._take_back_notes(store, model, [attempt for attempt in done if attempt.noted])
        missing = [(attempt, None) for attempt in attempts if attempt.pk not in freed]
        self._look_again(store, model, missing)

    def supersede(self, attempts: Iterable[Attempt]) -> None:
        """The row moved on without these attempts: count it once and drop them."""
        for attempt in attempts:
            with attempt.lock:
                known, attempt.superseded = attempt.superseded, True
            if known:
                continue
            self._counters.add(attempt.model, SUPERSEDED)
            logger.info(
                "%s %s moved on while it was in the state %s here; nothing was changed.",
                attempt.model._meta.label,
                attempt.pk,
                attempt.state,
                extra={"action": "superseded", "pk": attempt.pk, "state": str(attempt.state)},
            )
        self._holdings.remove(attempts)

    def _drop(self, model: Any, keys: list[Any], pairs: list[tuple[Attempt, Outcome]]) -> None:
        """The database takes neither the outcome nor the failure: the lease will lapse."""
        for attempt, _ in pairs:
            if attempt.pk in keys:
                attempt.superseded = True
                self._holdings.remove([attempt])
                logger.error(
                    "The database refuses every write to %s %s; it is tried again when its lease "
                    "has run out.",
                    model._meta.label,
                    attempt.pk,
                    extra={"action": "refused", "model": model._meta.label, "pk": attempt.pk},
                )

    def _lose(self, items: list[Item], error: object) -> None:
        logger.error(
            "%d outcomes stay unwritten (%s); their rows are run again when their leases have run "
            "out.",
            len(items),
            error,
            extra={"action": "unwritten"},
        )
        self._holdings.remove(attempt for attempt, _ in items)

    def _out_of_time(self) -> bool:
        return self._give_up_at is not None and time.monotonic() > self._give_up_at
