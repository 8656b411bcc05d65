"""Settling: outcomes are written in one statement, while the next ones are being produced."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import DatabaseError, InterfaceError

from django_fsmworker.logs import logger_for
from django_fsmworker.models.keys import key_of
from django_fsmworker.models.resolving import resolve_failures
from django_fsmworker.runner.announcer import Announcer
from django_fsmworker.runner.counters import INTERRUPTED, Counters
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuards
from django_fsmworker.runner.execution.attempt_log import AttemptLog
from django_fsmworker.runner.execution.engine_spans import EngineSpans
from django_fsmworker.runner.execution.outcomes import swallowed_outcome
from django_fsmworker.runner.execution.writing import signals_of, write_in_parts, write_or_fail
from django_fsmworker.runner.in_flight.attempts import Attempt, InFlight, share_of, work_fields
from django_fsmworker.runner.in_flight.queues import Item, ResultQueue, WorkQueue
from django_fsmworker.runner.in_flight.revocations import Revocations
from django_fsmworker.runner.main_loop import Duty
from django_fsmworker.runner.measurements import Measurements
from django_fsmworker.runner.pace import Paces
from django_fsmworker.store import Ending, Outcome, Store
from django_fsmworker.store.errors import is_refusal
from django_fsmworker.store.failures import outlived, take_back_death
from django_fsmworker.store.fence import taken_over

logger = logger_for(__name__)

MOST_AT_ONCE = 1000
AGAIN_WAIT = 0.2
REFUSED_WAIT = 1.0
# How often a row may not take a write before it is looked at why.
MOST_UNTAKEN = 10

OnSettled = Callable[[Any, list[Outcome]], None]
"""Called by the settler after each write, with the model and the outcomes written."""


class Settler(threading.Thread):
    """A thread that writes outcomes on one connection; group commit without a timer.

    An outcome of None hands the row back: it was interrupted, nothing is counted. Rows that a write
    did not change are looked at once more: locked by somebody, they go with the next batch;
    otherwise the attempt was superseded, which is counted, and its outcome dropped.

    Rows that run on are put back into ``ready``. Each of ``on_settled`` is called with the model
    and the outcomes of every write.
    """

    def __init__(
        self,
        in_flight: InFlight,
        inbox: ResultQueue,
        ready: WorkQueue,
        counters: Counters,
        outages: OutageTracker,
        worker: str,
        run_on: RunOn,
        revocations: Revocations,
        on_settled: Sequence[OnSettled],
        log: AttemptLog | None = None,
        measurements: Measurements | None = None,
        paces: Paces | None = None,
        spans: EngineSpans | None = None,
    ) -> None:
        super().__init__(name="fsmworker-settler", daemon=True)
        self._in_flight = in_flight
        self._inbox = inbox
        self._ready = ready
        self._counters = counters
        self._worker = worker
        self._run_on = run_on
        self._revocations = revocations
        self._on_settled = on_settled
        self._log = log or AttemptLog(worker)
        self._measurements = measurements
        self._paces = paces
        self._spans = spans
        self._query_guards = QueryGuards(outages)
        self._mismatches = outages.mismatches
        self._not_before: dict[Any, float] = {}
        self._announcer = Announcer()
        self._again: list[Item] = []
        self._give_up_at: float | None = None
        self.settled = [0, 0]  # shares of slots: of sync checks, of async ones

    def stop(self, timeout: float) -> None:
        """Write what there is, for at most ``timeout`` seconds, and end."""
        self._give_up_at = time.monotonic() + timeout
        self._inbox.put(None)
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
            self._announcer.close()
            own.close()

    def _next_batch(self, block: bool) -> tuple[list[Item], bool]:
        """Everything in the inbox, with what has to be tried again, or that alone after a while."""
        batch, self._again = self._again, []
        wait = AGAIN_WAIT if batch else None
        stop = False
        try:
            item = self._inbox.get(timeout=wait if block else AGAIN_WAIT)
            while item is not None:
                batch.append(item)
                if len(batch) >= MOST_AT_ONCE:
                    return batch, stop
                item = self._inbox.get_nowait()
            stop = True
        except queue.Empty:
            pass
        return batch, stop

    def _grouped(self, batch: list[Item]) -> dict[tuple[Store, Any], list[Item]]:
        """The batch by table, each row once: a second attempt at one goes with the next batch."""
        groups: dict[tuple[Store, Any], dict[Any, Item]] = {}
        for item in batch:
            attempt, _ = item
            group = groups.setdefault((attempt.store, attempt.model), {})
            if group.setdefault(attempt.pk, item) is not item:
                self._again.append(item)
        return {key: list(group.values()) for key, group in groups.items()}

    def _settle_group(self, store: Store, model: Any, items: list[Item]) -> None:
        query_guard = self._query_guards[store.alias]
        live = [item for item in items if not (item[0].superseded or item[0].settled)]
        if len(live) < len(items):
            superseded = [attempt for attempt, _ in items if attempt.superseded]
            self._in_flight.remove(each for each in superseded if not each.revoked)
            self._release(store, model, [each for each in superseded if each.revoked])
        if not live:
            query_guard.rest()
            return
        if time.monotonic() < max(query_guard.retry_at, self._not_before.get(model, 0.0)):
            self._again += live
            return
        try:
            if self._spans is None:
                self._write(store, model, live)
            else:
                traces = (attempt.trace for attempt, _ in live)
                with self._spans.settling(store, model, traces, len(live)):
                    self._write(store, model, live)
            query_guard.succeeded()
        except (DatabaseError, InterfaceError) as error:
            # An outage, or a table that is not as expected, keeps outcomes: the fence decides when
            # they can be written.
            if not is_refusal(error):
                query_guard.failed(error)
                self._again += live
            elif self._mismatches.explains(store, model, error):
                self._not_before[model] = time.monotonic() + REFUSED_WAIT
                self._again += live
            else:
                self._cannot_write(live, error)
        except Exception as error:
            self._cannot_write(live, error)

    def _cannot_write(self, items: list[Item], error: Exception) -> None:
        """Trying again would not help, and other rows wait."""
        logger.exception("Outcomes could not be written.", extra={"action": "unwritten"})
        self._lose([item for item in items if not item[0].settled], error)

    def _release(self, store: Store, model: Any, attempts: list[Attempt]) -> None:
        """Free rows that were moved while their checks ran; if it fails, the renewer sees to it."""
        query_guard = self._query_guards[store.alias]
        if not attempts or time.monotonic() < query_guard.retry_at:
            return
        try:
            with query_guard.asking():
                self._revocations.release(store, model, attempts)
        except (DatabaseError, InterfaceError) as error:
            query_guard.failed(error)

    def _write(self, store: Store, model: Any, items: list[Item]) -> None:
        asking = self._query_guards[store.alias].asking
        with asking():
            self._hand_back(store, model, [each for each, outcome in items if outcome is None])
        pairs = [(attempt, outcome) for attempt, outcome in items if outcome is not None]
        if written_by_checks := [pair for pair in pairs if pair[1].written]:
            self._conclude(store, model, written_by_checks)
            pairs = [pair for pair in pairs if not pair[1].written]
        onward, pairs = self._run_on.parted(pairs)
        pairs += self._write_onward(store, model, onward)
        if not pairs:
            return
        with asking():
            outcomes = [outcome for _, outcome in pairs]
            written = write_or_fail(store, model, outcomes, self._worker)
        keys, replaced = written.keys, written.replaced
        if len(keys) == len(pairs) and not replaced:  # as usual
            self._conclude(store, model, pairs)
            return
        self._drop(model, [attempt for attempt, _ in pairs if attempt.pk in written.unwritable])
        if replaced:
            pairs = [(attempt, replaced.get(outcome.pk, outcome)) for attempt, outcome in pairs]
        self._conclude(store, model, [pair for pair in pairs if pair[1].pk in keys])
        missing = [pair for pair in pairs if pair[1].pk not in keys]
        with asking():
            self._look_again(store, model, [pair for pair in missing if not pair[0].superseded])

    def _write_onward(self, store: Store, model: Any, pairs: list[Pair]) -> list[Pair]:
        """Write the rows that run on; returns those that have to be written like any others."""
        if not pairs:
            return []
        try:
            with self._query_guards[store.alias].asking():
                attempts = self._run_on.write(store, model, pairs)
        except DatabaseError as error:
            if not is_refusal(error):
                raise
            return pairs
        keys = {attempt.pk for attempt in attempts}
        for _, outcome in pairs:
            outcome.kept = outcome.pk in keys
        self._in_flight.add(attempts)
        self._conclude(store, model, [pair for pair in pairs if pair[1].pk in keys])
        self._ready.put(attempts)
        return [pair for pair in pairs if pair[1].pk not in keys]

    def _conclude(self, store: Store, model: Any, pairs: list[tuple[Attempt, Outcome]]) -> None:
        """Count, log and announce outcomes that are written, and let go of their rows."""
        if not pairs:
            return
        settled, noted, failed = self.settled, [], []
        for attempt, outcome in pairs:
            attempt.settled = True
            settled[attempt.is_async] += attempt.share
            if attempt.noted and outcome.failure is None:
                noted.append(attempt)
            if outcome.failure is not None:
                failed.append((attempt, outcome))
        outcomes = [outcome for _, outcome in pairs]
        endings = [outcome.ending for outcome in outcomes]
        left = len(endings)
        for ending in Ending if left else ():
            number = endings.count(ending)
            self._counters.add(model, ending, number)
            left -= number
            if not left:
                break
        for counted in (self._paces, self._measurements):
            if counted is not None:
                counted.settled(model, pairs)
        if failed:
            self._log.failed(failed)
        signals = signals_of(model, outcomes, store.alias)
        if signals:
            self._announcer.announce(signals)
        for on_settled in self._on_settled:
            on_settled(model, outcomes)
        self._in_flight.remove(attempt for attempt, _ in pairs)
        self._take_back_notes(store, model, noted)

    def _take_back_notes(self, store: Store, model: Any, attempts: list[Attempt]) -> None:
        """Resolve the notes that checks did not end; they did, and their rows have not failed."""
        if attempts:
            resolve_failures(model, [attempt.pk for attempt in attempts], store.alias)

    def _look_again(self, store: Store, model: Any, pairs: Sequence[Item]) -> None:
        if not pairs:
            return
        held = store.still_held(model, [attempt.fence for attempt, _ in pairs])
        self._again += self._unless_swallowed(
            store, model, [pair for pair in pairs if pair[0].pk in held]
        )
        lost = [attempt for attempt, _ in pairs if attempt.pk not in held]
        revoked = self._revocations.find(store, model, lost)
        if revoked:
            self._revocations.release(store, model, revoked)
            lost = [attempt for attempt in lost if attempt not in revoked]
        if examined := [attempt.pk for attempt in lost if attempt.examined]:
            outlived(store.alias, model, examined)
        if lost:
            # Moved by a plain update(), a row still carries our token: it shall not lapse.
            store.hand_back(model, [attempt.fence for attempt in lost])
            self._in_flight.supersede(lost)

    def _unless_swallowed(self, store: Store, model: Any, pairs: list[Item]) -> list[Item]:
        """What is to be tried again of rows that did not take a write.

        They are locked by somebody. Once in a while a write is tried under a lock of our own: one
        that is not taken then was dropped by a trigger, without an error. The row has failed of
        that, and is parked if it does not take that either.
        """
        for attempt, _ in pairs:
            attempt.untaken += 1
        doubtful = [pair for pair in pairs if pair[0].untaken % MOST_UNTAKEN == 0]
        if not doubtful:
            return pairs
        dropped = self._dropped_by_a_trigger(store, model, doubtful)
        again: list[Item] = []
        for attempt, outcome in pairs:
            if attempt.settled or attempt.superseded:
                continue
            if attempt.pk not in dropped:
                again.append((attempt, outcome))
            elif outcome is None or attempt.untaken > 2 * MOST_UNTAKEN:
                self._drop(model, [attempt])
            else:
                again.append((attempt, swallowed_outcome(outcome)))
        return again

    def _dropped_by_a_trigger(self, store: Store, model: Any, pairs: list[Item]) -> set[Any]:
        """Write under a lock; the keys of rows that are locked by us and do not take it."""
        with store.transaction():
            ours = store.lock(model, [attempt.pk for attempt, _ in pairs])
            outcomes = [each for _, each in pairs if each is not None and each.pk in ours]
            written = write_or_fail(store, model, outcomes, self._worker)
            back = [each for each, outcome in pairs if outcome is None and each.pk in ours]
            freed = store.hand_back(model, [attempt.fence for attempt in back])
        found = [(each, outcome) for each, outcome in pairs if outcome and each.pk in written.keys]
        self._conclude(
            store, model, [(each, written.replaced.get(each.pk, old)) for each, old in found]
        )
        for attempt in back:
            if attempt.pk in freed:
                attempt.superseded = True
                self._in_flight.remove([attempt])
        return ours - written.keys - freed

    def _hand_back(self, store: Store, model: Any, attempts: list[Attempt]) -> None:
        if not attempts:
            return
        freed, refused = write_in_parts(
            lambda fences: store.hand_back(model, fences),
            [attempt.fence for attempt in attempts],
            lambda error: self._mismatches.explains(store, model, error),
        )
        unwritable = {fence.pk for fence in refused}
        self._drop(model, [attempt for attempt in attempts if attempt.pk in unwritable])
        done = [attempt for attempt in attempts if attempt.pk in freed]
        self._counters.add(model, INTERRUPTED, len(done))
        for attempt in done:
            attempt.superseded = True  # whatever its thread still does changes nothing
        spared = [each.pk for each in done if each.examined]
        if spared:
            take_back_death(store.alias, model, spared)
        self._in_flight.remove(done)
        self._take_back_notes(store, model, [attempt for attempt in done if attempt.noted])
        missing = [(each, None) for each in attempts if each.pk not in freed | unwritable]
        self._look_again(store, model, missing)

    def _drop(self, model: Any, attempts: Sequence[Attempt]) -> None:
        """Let go of rows to which the database refuses every write: their leases lapse."""
        for attempt in attempts:
            attempt.superseded = True
            logger.error(
                "The database refuses every write to %s %s; it is tried again when its lease "
                "has run out.",
                model._meta.label,
                attempt.pk,
                extra={"action": "refused", **work_fields(attempt, self._worker)},
            )
        if attempts:
            self._in_flight.remove(attempts)

    def _lose(self, items: list[Item], error: object) -> None:
        logger.error(
            "%d outcomes stay unwritten (%s); their rows are run again when their leases have run "
            "out.",
            len(items),
            error,
            extra={"action": "unwritten"},
        )
        self._in_flight.remove(attempt for attempt, _ in items)

    def _out_of_time(self) -> bool:
        return self._give_up_at is not None and time.monotonic() > self._give_up_at


# Each step is a fenced transition of its own, under a token of its own. How long one row may run on
# is bounded by steps and by time, so that other rows get their turn.

MOST_STEPS = 50

Pair = tuple[Attempt, Outcome]


class RunOn:
    """Tells which rows run on, and writes those."""

    def __init__(
        self,
        lease: float,
        worker: str = "",
        duty: Duty | None = None,
        is_paused: Callable[[Any, str], bool] = lambda model, state: False,
    ) -> None:
        self._lease = lease
        self._worker = worker
        self._duty = duty or Duty()
        self._is_paused = is_paused
        self._forbidden = False
        self._into: dict[Any, frozenset[str]] = {}

    def forbid(self) -> None:
        """Let no row run on: in a single pass, and while the runner stops."""
        self._forbidden = True

    def parted(self, pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
        """The pairs whose rows run on, and the others; all are of one model."""
        if self._forbidden or self._duty.suspended:
            return [], pairs
        onward: list[Pair] = []
        others: list[Pair] = []
        into = self._with_only_a_check(pairs[0][0].state.graph) if pairs else frozenset()
        if not into:
            return [], pairs
        for pair in pairs:
            runs_on = pair[1].target in into and self._runs_on(*pair)
            (onward if runs_on else others).append(pair)
        return onward, others

    def write(self, store: Store, model: Any, pairs: list[Pair]) -> list[Attempt]:
        """Write transitions; returns the attempts at the next step of the rows it changed."""
        sent = time.monotonic()
        outcomes = [outcome for _, outcome in pairs]
        rows = store.advance(model, outcomes, self._lease, self._worker)
        earlier = {attempt.pk: attempt for attempt, _ in pairs}
        return [self._next(earlier[key_of(row)], row, sent) for row in rows]

    def _runs_on(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Whether a healthy row moved into a state, with only a check, that is due now."""
        return (
            outcome.moved
            and outcome.failure is None
            and outcome.delay == 0
            and not attempt.suspect
            and not attempt.row.__dict__["state_failures"]
            and attempt.steps < MOST_STEPS
            and not self._is_paused(attempt.model, outcome.target)
            and time.monotonic() - attempt.began < self._lease
        )

    def _with_only_a_check(self, graph: Any) -> frozenset[str]:
        """The states before whose checks nothing comes that takes many rows of one claim.

        That are guards and batches; nor do limits come, which are asked before a claim.
        """
        if graph not in self._into:
            self._into[graph] = frozenset(
                state.name
                for state in graph.states.values()
                if state.checked and state.batch is None and not state.guards and not state.limits
            )
        return self._into[graph]

    def _next(self, earlier: Attempt, row: Any, sent: float) -> Attempt:
        values = row.__dict__
        state = earlier.state.graph.states[values["state"]]
        return Attempt(
            earlier.store,
            row,
            earlier.pk,
            values["state_claim"],
            taken_over(values["state_claim"]),
            state,
            state.is_async,
            share_of(state),
            0.0,  # its age
            sent,
            sent + self._lease,
            earlier.began,
            earlier.size,
            earlier.steps + 1,
        )
