"""What stands between the claimer and states that are limited, or on trial after a pause."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import Error

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.graph import State
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.claiming.admission import Admission, Plan
from django_fsmworker.runner.claiming.lanes import Capacity, LaneBook, Lanes
from django_fsmworker.runner.in_flight.attempts import Attempt, InFlight, Work
from django_fsmworker.runner.limiting.breakers import Breakers
from django_fsmworker.runner.limiting.pauses import PauseBook
from django_fsmworker.runner.limiting.users import UserBook
from django_fsmworker.store import Lane, Outcome, Store

logger = logger_for(__name__)

# Seconds until somebody else's trial of a breaker is looked at again.
TRIAL_WAIT = 1.0

Ask = Callable[..., Any]


class Limiter:
    """Knows what may be claimed of limited states. Models without limits pass it by.

    ``pauses``, ``users`` and ``breakers`` are shared with other parts of the runner.
    """

    def __init__(
        self,
        stores: Mapping[Any, Store],
        settings: RunnerSettings,
        in_flight: InFlight,
        running: Callable[[], list[Work]],
        worker: str,
    ) -> None:
        self._stores = stores
        self._lease = settings.lease
        self._is_held = in_flight.holds
        self.pauses = PauseBook(stores, settings.poll_interval)
        self.users = UserBook(stores, in_flight, running)
        self.breakers = Breakers(stores, worker)
        self._admission = Admission(self.users, self.pauses, settings.lease)
        self._limited = {
            model: {
                name
                for name, state in model.state_graph.states.items()
                if state.limits.beyond_a_share
            }
            for model in stores
        }
        self._planned = {
            (model, name)
            for model, names in self._limited.items()
            for name in names
            if model.state_graph.states[name].limits.are_asked
        }
        self.has_limits = any(self._limited.values())
        """Whether anything is limited here: otherwise only trials are of any concern."""

    def is_asked_about(self, model: Any, state: State) -> bool:
        """Whether the next claim of the state has to be planned."""
        lane = model, state.name
        return lane in self._planned or lane in self.pauses.trials

    def settled(self, model: Any, outcomes: list[Outcome]) -> None:
        """Note outcomes that are written; called by the settler."""
        if self._limited[model]:
            self.breakers.note(model, outcomes)

    def stops_work(self, work: Work) -> bool:
        """Whether a call that has not begun is to be handed back."""
        return self.pauses.stops_work(work) or self.users.stops_work(work)

    def look(self, store: Store, models: Iterable[Any], lanes: Lanes, ask: Ask) -> None:
        """Before a claim: tell of breakers, see which limits are free again."""
        for model in models:
            if self._limited[model] and self.breakers.is_to_write(model):
                ask(store, self.breakers.write, store, model)
                self.pauses.changed(store)
            for name in self._limited[model]:
                book = lanes.book(model, name)
                if book.blocked_until and self.users.count((model, name)) < book.held:
                    book.blocked_until = 0.0

    def highest(self, model: Any, books: list[LaneBook]) -> list[LaneBook]:
        """The lanes that go before the others: those of the highest priority."""
        if not self._limited[model]:
            return books
        states = model.state_graph.states
        highest = max(states[book.state].limits.rank for book in books)
        return [book for book in books if states[book.state].limits.rank == highest]

    def plan(
        self,
        store: Store,
        model: Any,
        book: LaneBook,
        lane: Lane,
        capacity: Capacity,
        full_scan_every: float,
    ) -> Plan | None:
        """What to ask of a limited lane; None for nothing, while one of its rows is on trial."""
        state = model.state_graph.states[book.state]
        trial = self.pauses.trials.get((model, book.state))
        if trial is not None:
            if not self.breakers.may_try(store, (model, book.state), trial, self._lease):
                book.blocked(True, TRIAL_WAIT, 0)
                return None
            lane = replace(lane, limit=1)
        plan = self._admission.plan(
            store,
            model,
            state,
            lane,
            capacity.most_of_key(state.is_async, state),
            0.0 if book.closed else full_scan_every,
        )
        plan.trial = trial is not None
        return plan

    def took(
        self,
        store: Store,
        model: Any,
        book: LaneBook,
        plan: Plan,
        attempts: Sequence[Attempt],
        database_now: datetime | None,
    ) -> None:
        """Note what the claim found in a limited lane."""
        lane = (model, book.state)
        if plan.trial:
            self.breakers.tries(store, lane, attempts[0].pk if attempts else None)
        limits = plan.state.limits
        # Permits that are lacking were counted for the plan; who has ended since has made room.
        counted = limits.limit is not None and limits.rate is None
        held = self.users.last_count(lane) if counted else self.users.count(lane)
        held += len(attempts)
        may_have_more, seconds = self._admission.took(store, model, plan, attempts, database_now)
        if plan.state.limits.key is None and plan.lanes:
            book.took([each.row for each in attempts], plan.lanes[0].limit, database_now)
        book.blocked(may_have_more, seconds, held if seconds else 0)

    def close(self) -> None:
        """Give back all permits that are not in use; those of others lapse by themselves."""
        for store in self.renewed_stores():
            try:
                self.users.close(store)
            except Error as error:
                logger.debug("Permits were not given back (%s).", error)

    def tidy(self, store: Store, model: Any, lanes: Lanes) -> None:
        """After a claim: give back permits that nothing here needs now."""
        self.users.release_unused(store, model, lambda state: lanes.book(model, state).may_run)

    def renewed_stores(self) -> list[Store]:
        """The databases in which limited models are."""
        return list(dict.fromkeys(self._stores[m] for m, names in self._limited.items() if names))

    def renew(self, store: Store) -> list[Attempt]:
        """Renew permits and trials; returns the attempts that have lost their permits."""
        for model, own in self._stores.items():
            if own is store:
                self.breakers.renew(store, model, self._lease, self._is_held)
        return self.users.renew(store, self._lease)
