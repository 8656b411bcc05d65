"""Takes due rows for this process: as many as its threads will run soon, models in turn."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.claiming.lanes import LaneBook
from django_fsmworker.runner.claiming.room import Room
from django_fsmworker.runner.database.connections import discard
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.guards.guarding import Guarding
from django_fsmworker.runner.work.attempt import Attempt, attempts_at
from django_fsmworker.runner.work.batch import Work, batched
from django_fsmworker.runner.work.holdings import Holdings
from django_fsmworker.runner.work.ready import ReadyQueue
from django_fsmworker.runner.work.throughput import Throughput
from django_fsmworker.store import Lane, Outcome, Store
from django_fsmworker.store.errors import is_refusal

logger = logging.getLogger(__name__)

LONGEST_STUCK = 60.0
# Sync and async checks have room of their own: neither waits while the other has none.
KINDS = (False, True)

PEEK_GAP = 0.02


class Claimer:
    """Knows the lanes of every model, how much room there is, and when to look again."""

    def __init__(
        self,
        stores: Mapping[Any, Store],
        settings: RunnerSettings,
        holdings: Holdings,
        ready: ReadyQueue | Guarding,
        throughputs: Mapping[bool, Throughput],
        outages: Outages,
        on_displaced: Callable[[list[Attempt]], None],
        alone: Callable[[Attempt], bool] = lambda attempt: False,
    ) -> None:
        self._on_displaced = on_displaced
        self._alone = alone
        self._stores = stores
        self._settings = settings
        self._holdings = holdings
        self._ready = ready
        self._room = Room(settings, holdings, ready, throughputs)
        self._lock = threading.Lock()
        self._turns = list(stores)
        self._books = {
            model: {name: LaneBook(name) for name in model.state_graph.states} for model in stores
        }
        self._until: dict[str, datetime] | None = None
        self._next_peek = 0.0
        self._peeked = float("-inf")
        self._asked = False
        self._asked_until = float("-inf")
        self._resting: dict[Any, float] = {}
        self._backoffs = {store.alias: outages.backoff(store.alias) for store in stores.values()}
        self._claimed_at = time.monotonic()

    def only_what_is_due_now(self) -> None:
        """One pass: what becomes due from here on is left alone."""
        aliases = {store.alias: store for store in self._stores.values()}
        self._until = {alias: store.now() for alias, store in aliases.items()}

    @property
    def single_pass(self) -> bool:
        """Whether only what was due at the start is claimed."""
        return self._until is not None

    def makes_progress(self) -> bool:
        """False once rows may be due and there is room, but no claim could be sent for a minute.

        A database that is away is no reason to start the process again.
        """
        now = time.monotonic()
        away = any(backoff.retry_at > now for backoff in self._backoffs.values())
        if away or self.exhausted or not any(self._room.of_kind(kind) > 0 for kind in KINDS):
            self._claimed_at = now
        return now - self._claimed_at < LONGEST_STUCK

    @property
    def exhausted(self) -> bool:
        """Whether a single pass has found everything."""
        return not any(book.active for lanes in self._books.values() for book in lanes.values())

    def wake(self, model: Any, state: str, due_in: float) -> None:
        """A settled row is due in ``due_in`` seconds: no need to ask the database."""
        if self._until is None:
            with self._lock:
                self._books[model][state].wake(due_in)

    def hinted(self, model: Any) -> None:
        """Somebody made rows of ``model`` due: look into each of its lanes."""
        for state in self._books[model]:
            self.wake(model, state, 0)

    def look_again(self, soon: bool = False) -> None:
        """Somebody may have made rows due, or ``soon`` due: ask the database when.

        It tells the first of each lane. So for as long as there may be more of them it is asked
        again when those are taken.
        """
        if self._until is None:
            self._asked = True
            if soon:
                self._asked_until = time.monotonic() + self._settings.poll_interval
            self._peek_early()

    def expect(self, model: Any, outcomes: Iterable[Outcome]) -> None:
        """These outcomes were written: their rows will be due again."""
        soonest: dict[str, float] = {}
        for outcome in outcomes:
            for delay in (outcome.delay, outcome.timeout):
                if delay is not None:
                    soonest[outcome.target] = min(delay, soonest.get(outcome.target, delay))
        for state, delay in soonest.items():
            self.wake(model, state, delay)

    def claim(self) -> bool:
        """Claim once from each model that may have due rows; whether anything was found."""
        self._tick()
        found = False
        # Every share is settled before the first claim: who comes later has to find room, too.
        rooms = [
            (model, kind, self._active(model, kind), self._room_of(model, kind))
            for model in self._turn()
            for kind in KINDS
        ]
        for model, kind, lanes, room in rooms:
            if lanes and room > 0:
                claimed = self._try(model, self._claim_from, model, kind, lanes, room)
                found = bool(claimed) or found
        return found

    def seconds_to_wait(self) -> float:
        """How long there is nothing to claim, unless somebody wakes the runner."""
        now = time.monotonic()
        active = [model for model in self._turns if self._has_room_and_rows(model)]
        retries = [self._backoffs[self._stores[model].alias].retry_at for model in active]
        retries += [at for at in self._resting.values() if at > now]
        with self._lock:
            due = [book.next_due for lanes in self._books.values() for book in lanes.values()]
        peek = self._next_peek if self._until is None else now + self._settings.poll_interval
        return max(0.0, min(*due, *retries, peek) - now)

    def peek(self) -> None:
        """Ask, in one statement a database, when each sleeping lane's first free row is due."""
        now = time.monotonic()
        if self._until is not None or now < self._next_peek:
            return
        self._peeked = now
        self._next_peek = now + Throughput.jittered(self._settings.poll_interval)
        self._asked = self._asked and not self.exhausted  # an active lane is not asked about now
        for store, models in self._by_store().items():
            try:
                self._ask(store, self._peek_at, store, models)
            except Exception:  # one model spoils the common question
                for model in models:
                    self._try(model, self._peek_at, store, [model])
            retry_at = self._backoffs[store.alias].retry_at
            if retry_at > now:
                self._next_peek = min(self._next_peek, retry_at)

    def _ask(self, store: Store, question: Callable[..., Any], *arguments: Any) -> Any:
        """Ask one database; None while it is away, which keeps nobody from asking the others."""
        backoff = self._backoffs[store.alias]
        if time.monotonic() < backoff.retry_at:
            return None
        try:
            with backoff.asking():
                answer = question(*arguments)
        except (DatabaseError, InterfaceError) as error:
            if is_refusal(error):
                raise
            backoff.failed(error)
            return None
        backoff.succeeded()
        return answer

    def _try(self, model: Any, question: Callable[..., Any], *arguments: Any) -> Any:
        """Ask about one model; an error that is its own rests it, and no other."""
        try:
            return self._ask(self._stores[model], question, *arguments)
        except Exception:
            self._resting[model] = time.monotonic() + self._settings.poll_interval
            if self._until is not None:  # a single pass does not wait for it
                for book in self._books[model].values():
                    book.active = False
            discard(connections[self._stores[model].alias])
            logger.exception(
                "%s cannot be claimed; trying again.",
                model._meta.label,
                extra={"action": "claim_failed", "model": model._meta.label},
            )
            return None

    def _peek_at(self, store: Store, models: list[Any]) -> None:
        sleeping = {
            model: [Lane(book.state, 1) for book in self._books[model].values() if not book.active]
            for model in models
        }
        asked = {model: lanes for model, lanes in sleeping.items() if lanes}
        found = store.peek(asked) if asked else {}
        with self._lock:
            for (model, state), due in found.items():
                book = self._books[model][state]
                book.doubtful = due <= 0  # nobody woke it for that row: it may lie below the mark
                book.wake(due)

    def _claim_from(self, model: Any, kind: bool, books: list[LaneBook], room: int) -> bool:
        # With less room than lanes, those that have waited longest have their turn.
        books = sorted(books, key=lambda book: book.asked)[:room]
        states = [model.state_graph.states[book.state] for book in books]
        limits = self._room.rows_of(states, kind, room)
        lanes = [
            book.lane(limit, self._settings.lease / 6)
            for book, limit in zip(books, limits, strict=True)
        ]
        store, sent = self._stores[model], time.monotonic()
        until = self._until[store.alias] if self._until else None
        rows = store.claim(model, lanes, self._settings.lease, until)
        self._claimed_at = time.monotonic()
        self._note(books, rows, limits)
        attempts = attempts_at(store, model, rows, sent, self._settings.lease)
        self._on_displaced(self._holdings.add(attempts))
        works: Sequence[Work] = attempts
        if any(state.batch for state in states):
            works = batched(attempts, self._alone)
        self._ready.put(works, kind, level=self._room.low_water(kind))
        return bool(rows)

    def _note(self, books: list[LaneBook], rows: list[Any], limits: list[int]) -> None:
        """Tell each lane what was found in it."""
        found: dict[str, list[Any]] = {book.state: [] for book in books}
        for row in rows:
            found[row.__dict__["state"]].append(row)
        lease = timedelta(seconds=self._settings.lease)
        database_now = rows[0].state_lease - lease if rows else None
        with self._lock:
            for book, limit in zip(books, limits, strict=True):
                book.took(found[book.state], limit, database_now)
                more = bool(found[book.state]) and time.monotonic() < self._asked_until
                if not book.active and (self._asked or more):
                    self._peek_early()

    def _peek_early(self) -> None:
        self._next_peek = self._peeked + PEEK_GAP

    def _room_of(self, model: Any, kind: bool) -> int:
        sharing = sum(bool(self._active(each, kind)) for each in self._books)
        return self._room.of_model(model, kind, sharing)

    def _active(self, model: Any, kind: bool) -> list[LaneBook]:
        if self._resting.get(model, 0.0) > time.monotonic():
            return []
        states = model.state_graph.states
        return [
            book
            for book in self._books[model].values()
            if book.active and states[book.state].is_async is kind
        ]

    def _has_room_and_rows(self, model: Any) -> bool:
        return any(self._active(model, kind) and self._room_of(model, kind) > 0 for kind in KINDS)

    def _tick(self) -> None:
        now = time.monotonic()
        with self._lock:
            for lanes in self._books.values():
                for book in lanes.values():
                    if self._until is None:
                        book.tick(now)

    def _turn(self) -> list[Any]:
        """The models, beginning with another one each time."""
        self._turns.append(self._turns.pop(0))
        return self._turns

    def _by_store(self) -> dict[Store, list[Any]]:
        grouped: dict[Store, list[Any]] = {}
        for model, store in self._stores.items():
            grouped.setdefault(store, []).append(model)
        return grouped
