"""Claiming due rows for this process: as many as its executors will run soon, models in turn."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.graph import State
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.claiming.admission import Plan
from django_fsmworker.runner.claiming.lanes import Capacity, LaneBook, Lanes
from django_fsmworker.runner.claiming.limiter import Limiter
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuards
from django_fsmworker.runner.execution.engine_spans import EngineSpans
from django_fsmworker.runner.execution.suspects import recall
from django_fsmworker.runner.in_flight.attempts import Attempt, InFlight, Work, attempts_at, batched
from django_fsmworker.runner.in_flight.queues import WorkQueue
from django_fsmworker.runner.main_loop import Duty, jittered
from django_fsmworker.runner.measurements import Measurements
from django_fsmworker.store import Lane, Store
from django_fsmworker.store.drivers import discard
from django_fsmworker.store.errors import is_refusal, may_be_mismatch
from django_fsmworker.store.fence import key_column

logger = logger_for(__name__)

LONGEST_STUCK = 60.0
# Seconds for which rows that are held already are written and renewed before others are claimed.
HELD_FIRST = 1.0
MOST_BETWEEN_SCANS = 30.0
PEEK_GAP = 0.02
# Seconds until rows that were given back are taken to be free.
FREED_WITHIN = 0.5


class Intake:
    """What becomes of claimed rows: they are in flight, and wait to be run.

    ``on_displaced`` gets the attempts that still run on rows claimed anew. A row for which
    ``alone`` is true shares its call with no other.
    """

    def __init__(
        self,
        in_flight: InFlight,
        queue: WorkQueue,
        on_displaced: Callable[[list[Attempt]], None],
        alone: Callable[[Attempt], bool] = lambda attempt: False,
    ) -> None:
        self._in_flight = in_flight
        self._queue = queue
        self._on_displaced = on_displaced
        self._alone = alone

    def take(
        self, attempts: Sequence[Attempt], is_async: bool, *, in_batches: bool, low_water: int
    ) -> None:
        """Take the rows of one claim; once no more than ``low_water`` wait, the loop is woken."""
        displaced = self._in_flight.add(attempts)
        if displaced:
            self._on_displaced(displaced)
        works: Sequence[Work] = batched(attempts, self._alone) if in_batches else attempts
        self._queue.put(works, is_async, level=low_water)


class Claimer:
    """Claims from the lanes that may have due rows, within capacity, and says when to look again.

    One object a process; all but ``look_again``, ``look_at_pauses`` and ``hinted`` belong to the
    main loop.
    """

    def __init__(
        self,
        stores: Mapping[Any, Store],
        settings: RunnerSettings,
        capacity: Capacity,
        intake: Intake,
        outages: OutageTracker,
        limiter: Limiter,
        duty: Duty | None = None,
        measurements: Measurements | None = None,
        spans: EngineSpans | None = None,
    ) -> None:
        self._stores = stores
        self._spans = spans
        self._limiter = limiter
        self._pauses = limiter.pauses
        self._obeyed = self._pauses.version
        self._measurements = measurements
        self._duty = duty or Duty()
        self._settings = settings
        self._capacity = capacity
        self._intake = intake
        self.lanes = Lanes(stores)
        self._turns = list(stores)
        self._by_store: dict[Store, list[Any]] = {}
        for model, store in stores.items():
            self._by_store.setdefault(store, []).append(model)
        self._until: dict[str, datetime] | None = None
        self._next_peek = 0.0
        self._peeked = float("-inf")
        self._asked = False
        self._asked_until = float("-inf")
        self._resting: dict[Any, float] = {}
        self._query_guards = QueryGuards(outages, (store.alias for store in stores.values()))
        self._mismatches = outages.mismatches
        self._claimed_at = time.monotonic()
        # A row below the mark waits no longer than one that only the poll finds, nor than a lapsed
        # lease may wait to be seen.
        self._full_scan_every = min(settings.poll_interval, settings.lease / 6, MOST_BETWEEN_SCANS)

    def only_what_is_due_now(self) -> None:
        """Make a single pass: what becomes due from here on is left alone."""
        aliases = {store.alias: store for store in self._stores.values()}
        self._until = {alias: store.now() for alias, store in aliases.items()}
        self.lanes.until_now()

    @property
    def single_pass(self) -> bool:
        """Whether only what was due at the start is claimed."""
        return self._until is not None

    def makes_progress(self) -> bool:
        """False once rows may be due and slots are free, but no claim could be sent for a minute.

        A database that is away is no reason to start the process again.
        """
        now = time.monotonic()
        away = any(query_guard.retry_at > now for query_guard in self._query_guards.values())
        if away or not self._could_claim():
            self._claimed_at = now
        return now - self._claimed_at < LONGEST_STUCK

    def _could_claim(self) -> bool:
        """Whether there is a slot for rows that may be due; where a claim failed there is, too."""
        return any(
            self._capacity.may_hold_more(model, is_async)
            for model in self._stores
            for is_async in (False, True)
            if self._may_claim(model) and self._with_room(model, is_async)
        )

    @property
    def exhausted(self) -> bool:
        """Whether no lane is thought to have due rows; then a single pass has found everything."""
        return self.lanes.exhausted

    def hinted(self, model: Any) -> None:
        """Look into each lane of ``model``, since somebody made rows of it due."""
        self.lanes.wake_all(model)

    def look_again(self, soon: bool = False) -> None:
        """Ask the database when rows are due, since somebody made some due now, or ``soon``.

        The database tells the first of each lane. As long as there may be more of them it is asked
        again when those are taken.
        """
        if self._until is None:
            self._asked = True
            if soon:
                self._asked_until = time.monotonic() + self._settings.poll_interval
            self._peek_early()

    def look_at_pauses(self) -> None:
        """Ask what is paused, since somebody has changed that."""
        self._pauses.doubt()

    def claim(self) -> bool:
        """Claim once from each model that may have due rows; whether anything was found."""
        self.lanes.tick(time.monotonic())
        self._look_at_mismatches()
        for store, models in self._by_store.items():
            if self._limiter.has_limits:
                self._or_rest(models, self._limiter.look, store, models, self.lanes, self._ask)
            self._or_rest(models, self._learn_of_pauses, store, models)
        if self._until is None:
            for work in self._capacity.give_back_overhang():
                self.lanes.wake(work.model, work.state.name, FREED_WITHIN)
        found = False
        # Every share is settled before the first claim: later models have to find free slots, too.
        shares = self._shares(self._turn())
        if shares:
            self._duty.look()
        for model, is_async, lanes, slots, sharing in shares:
            if self._may_claim(model):
                claimed = self._try(model, self._claim_from, model, is_async, lanes, slots, sharing)
                found = bool(claimed) or found
        for store, models in self._by_store.items() if found else ():
            if time.monotonic() >= self._pauses.ask_at(store, all_paused=False):
                # What is paused and has not begun is handed back.
                self._or_rest(models, self._ask, store, self._pauses.ask, store)
        if self._limiter.has_limits and self._limiter.users:
            for model, store in self._stores.items():
                self._try(model, self._limiter.tidy, store, model, self.lanes)
        return found

    def _or_rest(self, models: list[Any], question: Callable[..., Any], *arguments: Any) -> None:
        """Ask about pauses. All models rest if those cannot be read, since any may be paused."""
        try:
            question(*arguments)
        except Exception as error:
            explained = [model for model in models if self._explains(model, error)]
            if self._until is not None:  # a single pass waits for none of them
                for model in explained:
                    self.lanes.give_up(model)
            if len(explained) < len(models):
                if not may_be_mismatch(error):
                    raise
                question(*arguments)  # the table is as expected by now

    def seconds_to_wait(self) -> float:
        """The time in which there is nothing to claim, unless somebody wakes the runner."""
        now = time.monotonic()
        active = {model for model, *_ in self._shares(self._stores)}
        retries = [self._query_guards[self._stores[model].alias].retry_at for model in active]
        retries += [at for at in tuple(self._resting.values()) if at > now]
        retries += [
            self._pauses.ask_at(store, all_paused=True)
            for store, models in self._by_store.items()
            if any(book.paused for book in self._active_books(models))
        ]
        if self._until is None:
            retries += [self._mismatches.look_at(model) for model in self._mismatches.resting()]
        peek = self._next_peek if self._until is None else now + self._settings.poll_interval
        return max(0.0, min(self.lanes.next_due(), *retries, peek) - now)

    def peek(self) -> None:
        """Ask, in one statement a database, when each sleeping lane's first free row is due."""
        now = time.monotonic()
        if self._until is not None or now < self._next_peek:
            return
        self._peeked = now
        self._next_peek = now + jittered(self._settings.poll_interval)
        self._asked = self._asked and not self.exhausted  # an active lane is not asked about now
        for store, models in self._by_store.items():
            models = [model for model in models if not self._mismatches.rests(model)]
            try:
                self._ask(store, self._peek_at, store, models)
            except Exception:  # one model spoils the common question
                for model in models:
                    self._try(model, self._peek_at, store, [model])
            retry_at = self._query_guards[store.alias].retry_at
            if retry_at > now:
                self._next_peek = min(self._next_peek, retry_at)

    def _ask(self, store: Store, question: Callable[..., Any], *arguments: Any) -> Any:
        """Ask one database; None while it is away, which keeps nobody from asking the others."""
        query_guard = self._query_guards[store.alias]
        if time.monotonic() < query_guard.retry_at:
            return None
        try:
            with query_guard.asking():
                answer = question(*arguments)
        except (DatabaseError, InterfaceError) as error:
            if is_refusal(error):
                raise
            query_guard.failed(error)
            return None
        query_guard.succeeded()
        return answer

    def _try(self, model: Any, question: Callable[..., Any], *arguments: Any) -> Any:
        """Ask about one model; an error that is its own rests it, and no other."""
        try:
            return self._ask(self._stores[model], question, *arguments)
        except Exception as error:
            if self._until is not None:  # a single pass does not wait for it
                self.lanes.give_up(model)
            if self._explains(model, error):
                return None
            self._resting[model] = time.monotonic() + self._settings.poll_interval
            discard(connections[self._stores[model].alias])
            logger.exception(
                "%s cannot be claimed; trying again.",
                model._meta.label,
                extra={"action": "claim_failed", "model": model._meta.label},
            )
            return None

    def _explains(self, model: Any, error: Exception) -> bool:
        """Whether the model's table is not as expected; the model rests then."""
        store = self._stores[model]
        return bool(self._ask(store, self._mismatches.explains, store, model, error))

    def _learn_of_pauses(self, store: Store, models: list[Any]) -> None:
        """Before a claim: ask what is paused, if what is known is old, and obey.

        Where hints tell of pauses, a claim that no known one concerns does not wait for that: it is
        asked after the claim.
        """
        active = self._active_books(models)
        if not active:
            return
        later = self._duty.hears_of_orders and self._pauses.may_be_asked_later(store)
        all_paused = all(book.paused for book in active)
        if not later and time.monotonic() >= self._pauses.ask_at(store, all_paused=all_paused):
            self._ask(store, self._pauses.ask, store)
        if self._pauses.version != self._obeyed:
            self._obeyed = self._pauses.version
            self.lanes.pause(self._pauses.stops)

    def _active_books(self, models: Iterable[Any]) -> list[LaneBook]:
        """The lanes that may have due rows, those that are paused or at a limit included."""
        return [book for model in models for book in self.lanes.books(model) if book.active]

    def _look_at_mismatches(self) -> None:
        """Look again at tables that were not as expected; the rows held go before new claims.

        A single pass waits for none of them.
        """
        now = time.monotonic()
        for model in self._mismatches.resting():
            if self._until is not None:
                self.lanes.give_up(model)
                continue
            store = self._stores[model]
            if now >= self._mismatches.look_at(model) and self._ask(
                store, self._mismatches.look, store, model
            ):
                self._resting[model] = now + HELD_FIRST

    def _peek_at(self, store: Store, models: list[Any]) -> None:
        lanes = self.lanes.asleep(models)
        self.lanes.peeked(store.peek(lanes) if lanes else {})

    def _claim_from(
        self, model: Any, is_async: bool, books: list[LaneBook], slots: int, sharing: int
    ) -> bool:
        limited = bool(self._limiter.has_limits or self._pauses.trials)
        if limited:
            books = self._limiter.highest(model, books)
        # With fewer slots than lanes, those that have waited longest have their turn.
        books = sorted(books, key=lambda book: book.asked)[:slots]
        states = [model.state_graph.states[book.state] for book in books]
        limits = self._capacity.rows(model, states, is_async, slots, sharing)
        lease, store = self._settings.lease, self._stores[model]
        asked = zip(books, states, limits, strict=True)
        lanes, free, plans = self._lanes_asked_for(model, asked, limited)
        sent = time.monotonic()
        claim = self._claim_lanes if self._spans is None else self._claim_in_span
        rows = claim(store, model, lanes, plans)
        self._claimed_at = time.monotonic()
        if self._measurements is not None:
            self._measurements.claimed(model, self._claimed_at - sent)
        size = self._capacity.row_sizes.seen(model, rows)
        attempts = attempts_at(store, model, rows, sent, lease, size)
        if plans:
            names = {book.state for book, _ in free}
            rows = [row for row in rows if row.__dict__["state"] in names]
        asleep, had_rows, unknown = self.lanes.took(free, rows, lease)
        if unknown or (
            asleep and (self._asked or (had_rows and time.monotonic() < self._asked_until))
        ):
            self._peek_early()
        suspects = [each for each in attempts if each.suspect]
        if suspects:
            recall(suspects)
        self._intake.take(
            attempts,
            is_async,
            in_batches=any(state.batch for state in states),
            low_water=self._capacity.low_water(is_async),
        )
        self._took_limited(store, model, plans, attempts)  # they are in flight by now
        return bool(attempts)

    def _lanes_asked_for(
        self, model: Any, asked: Iterable[tuple[LaneBook, State, int]], limited: bool
    ) -> tuple[list[Lane], list[tuple[LaneBook, int]], list[tuple[LaneBook, Plan]]]:
        """The lanes to claim from; the books without limits, and the plans for those with some."""
        lanes: list[Lane] = []
        free: list[tuple[LaneBook, int]] = []
        plans: list[tuple[LaneBook, Plan]] = []
        for book, state, limit in asked:
            every, store = self._full_scan_every, self._stores[model]
            lane = book.lane(limit, every)
            if not (limited and self._limiter.is_asked_about(model, state)):
                lanes.append(lane)
                free.append((book, limit))
                continue
            plan = self._limiter.plan(store, model, book, lane, self._capacity, every)
            if plan is not None:
                lanes += plan.lanes
                plans.append((book, plan))
        return lanes, free, plans

    def _claim_in_span(self, store: Store, model: Any, *lanes_and_plans: Any) -> list[Any]:
        assert self._spans is not None
        with self._spans.claim(store, model) as claimed:
            claimed.rows = rows = self._claim_lanes(store, model, *lanes_and_plans)
        return rows

    def _claim_lanes(
        self,
        store: Store,
        model: Any,
        lanes: Sequence[Lane],
        plans: Sequence[tuple[LaneBook, Plan]],
    ) -> list[Any]:
        """The due rows of these lanes: one statement, or one for each column with keys."""
        until, lease = self._until[store.alias] if self._until else None, self._settings.lease
        if not plans:
            return store.claim(model, lanes, lease, until)
        groups: dict[Any, list[Lane]] = {}
        for lane in lanes:
            groups.setdefault(key_column([lane]), []).append(lane)
        rows: list[Any] = []
        for some in groups.values():
            try:
                rows += store.claim(model, some, lease, until)
            except Exception:
                if not rows:
                    raise
                for _, plan in plans:  # what is claimed is run; the others are asked for again
                    plan.wait(self._settings.poll_interval)
                break
        return rows

    def _took_limited(
        self,
        store: Store,
        model: Any,
        plans: Sequence[tuple[LaneBook, Plan]],
        attempts: Sequence[Attempt],
    ) -> None:
        if not plans:
            return
        lease = timedelta(seconds=self._settings.lease)
        database_now = attempts[0].row.state_lease - lease if attempts else None
        for book, plan in plans:
            own = [each for each in attempts if each.state is plan.state]
            self._limiter.took(store, model, book, plan, own, database_now)

    def _peek_early(self) -> None:
        self._next_peek = self._peeked + PEEK_GAP

    def _shares(self, models: Iterable[Any]) -> list[tuple[Any, bool, list[LaneBook], int, int]]:
        """What may be claimed now: of which model, sync or async, from which lanes, and how much.

        That is a number of slots, and the number of models that share what is left of them.
        """
        lanes = [
            (model, is_async, books)
            for model in models
            for is_async in (False, True)
            if (books := self._active(model, is_async))
        ]
        sharing = Counter(is_async for _, is_async, _ in lanes)
        return [
            (model, is_async, books, slots, sharing[is_async])
            for model, is_async, books in lanes
            if (slots := self._capacity.slots_for(model, is_async, sharing[is_async])) > 0
        ]

    def _active(self, model: Any, is_async: bool) -> list[LaneBook]:
        if self._resting.get(model, 0.0) > time.monotonic() or not self._may_claim(model):
            return []
        return self._with_room(model, is_async)

    def _with_room(self, model: Any, is_async: bool) -> list[LaneBook]:
        states, has_room = model.state_graph.states, self._capacity.has_room
        return [
            book
            for book in self.lanes.active(model, is_async)
            if has_room(model, states[book.state])
        ]

    def _may_claim(self, model: Any) -> bool:
        on_duty = self._duty.may_claim(self._stores[model].alias)
        return on_duty and not self._mismatches.rests(model)

    def _turn(self) -> list[Any]:
        """The models, beginning with another one each time."""
        self._turns.append(self._turns.pop(0))
        return self._turns
