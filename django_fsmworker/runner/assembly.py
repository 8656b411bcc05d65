"""Assembling a runner: which parts it has, and which of them know each other.

A row's way is claimer → intake → ready queue → executor → result queue → settler. Each part gets
those after it on this way, so that all can be made in one go, the last first.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models.hints import hint_due
from django_fsmworker.runner.claiming.claimer import Claimer, Intake
from django_fsmworker.runner.claiming.lanes import Capacity, Prefetch
from django_fsmworker.runner.claiming.limiter import Limiter
from django_fsmworker.runner.claiming.renewer import Permits, Renewer
from django_fsmworker.runner.counters import Counters
from django_fsmworker.runner.database.outages import OutageTracker, QueryWatchdog, query_timeouts
from django_fsmworker.runner.execution.attempt_log import AttemptLog
from django_fsmworker.runner.execution.interruption import note_abandoned
from django_fsmworker.runner.execution.middleware import AttemptMiddleware
from django_fsmworker.runner.execution.outcomes import LostConnections
from django_fsmworker.runner.execution.writing import wake_events_of
from django_fsmworker.runner.executors.async_executor import AsyncExecutor
from django_fsmworker.runner.executors.call_threads import CallThreads
from django_fsmworker.runner.executors.executor import (
    Canceller,
    Deadlines,
    Executor,
    longest_deadline,
    shortest_deadline,
)
from django_fsmworker.runner.executors.thread_executor import ThreadExecutor
from django_fsmworker.runner.guards.evaluator import GuardEvaluator
from django_fsmworker.runner.guards.sweeper import Sweeper
from django_fsmworker.runner.heartbeat import Heartbeat, Obedience, Orders, Report
from django_fsmworker.runner.hints import HintListeners
from django_fsmworker.runner.housekeeping import Housekeeping
from django_fsmworker.runner.identity import Identity
from django_fsmworker.runner.in_flight.attempts import InFlight, Work, attempts_of
from django_fsmworker.runner.in_flight.queues import (
    ReadyQueue,
    ResultQueue,
    ResultRouter,
    WorkQueue,
)
from django_fsmworker.runner.in_flight.revocations import Revocations
from django_fsmworker.runner.in_flight.shares import Shares
from django_fsmworker.runner.main_loop import Duty, Wakeup
from django_fsmworker.runner.measurements import Measurements
from django_fsmworker.runner.pace import Paces
from django_fsmworker.runner.settler import OnSettled, RunOn, Settler
from django_fsmworker.store import Store

# Seconds past the longest deadline after which the server ends a statement that nobody has ended.
STATEMENT_GRACE = 5.0


class Parts:
    """The parts of a runner of the models in ``stores``; none is started.

    ``queue`` is where claimed rows are put first; without guards that is ``ready`` itself.
    """

    def __init__(
        self,
        stores: Mapping[Any, Store],
        settings: RunnerSettings,
        counters: Counters,
        identity: Identity,
        wakeup: Wakeup,
        report: Callable[[], Report],
        obedience: Obedience,
        orders: Orders,
    ) -> None:
        self._wakeup = wakeup
        worker = identity.id
        self.measurements = Measurements.of(settings)
        self.paces = Paces()
        self.duty = duty = Duty(on_change=wakeup.set)
        self.outages = outages = OutageTracker(query_timeouts(settings))
        self.query_watchdog = QueryWatchdog(outages)
        losses = LostConnections(outages)

        self.log = log = AttemptLog(worker, settings.check_logger)
        self.in_flight = in_flight = InFlight(counters, wakeup.set, worker)
        results = ResultQueue()
        self.ready = ready = ReadyQueue(
            settings.concurrency_per_model, give_back=results.hand_back, low_water=wakeup.set
        )
        on_result = ResultRouter(results.put, ready.put).route

        # Filled when the databases have been asked for limits of their own.
        self.statement_limits: dict[str, float] = {}
        limits = self.statement_limits
        self.call_threads = calls = CallThreads(settings.async_threads, outages, limits)
        set_aside = _setting_aside(in_flight, worker)
        middleware = AttemptMiddleware.of(settings, worker)
        common = settings, ready, on_result, log, losses, set_aside, calls, middleware
        states = [state for model in stores for state in model.state_graph.states.values()]
        self.executors: tuple[Executor, ...] = (ThreadExecutor(*common, limits),)
        if any(state.is_async for state in states):
            self.executors += (AsyncExecutor(*common),)
        self.longest_statement = longest_deadline(states, settings.deadline) + max(
            STATEMENT_GRACE, settings.abandon_after
        )
        self.deadlines = Deadlines(self.executors, shortest_deadline(states, settings.deadline))
        self.canceller = Canceller(self.executors, in_flight, on_result, self.deadlines.look_again)

        has_guards = any(state.guards for state in states)
        self.evaluator = GuardEvaluator(ready, results, outages) if has_guards else None
        self.queue: WorkQueue = self.evaluator or ready
        most, lease = settings.max_in_flight, settings.lease
        self.prefetch = {
            False: Prefetch(settings.concurrency, most, lease),
            True: Prefetch(settings.async_concurrency, most, lease),
        }
        capacity = Capacity(settings, in_flight, self.queue, self.prefetch, stores)
        slots = {False: settings.concurrency, True: settings.async_concurrency}
        ready.share(Shares(stores, slots))
        intake = Intake(in_flight, self.queue, self.canceller.lost, losses.known)
        self.limiter = limiter = Limiter(stores, settings, in_flight, self._running, worker)
        ready.stops = limiter.stops_work
        self.claimer = Claimer(
            stores, settings, capacity, intake, outages, limiter, duty, self.measurements
        )
        revocations = Revocations(
            in_flight, self.canceller.revoked, self._running, lease, self._on_released
        )
        self.renewer = Renewer(
            in_flight,
            ready,
            outages,
            lease,
            self.canceller.lost,
            revocations,
            Permits(limiter.renewed_stores(), limiter.renew, self.canceller.interrupt),
        )

        lanes = self.claimer.lanes
        self.sweeper = Sweeper(
            stores,
            counters,
            outages,
            worker,
            lanes.wake,
            wakeup.set,
            duty,
            log,
            limiter.pauses.stops_now,
        )
        self.run_on = RunOn(lease, worker, duty, limiter.pauses.stops)
        on_settled: list[OnSettled] = [lanes.expect, limiter.settled]
        if self.sweeper.models:
            on_settled.append(self.sweeper.settled)
        self.settler = Settler(
            in_flight,
            results,
            ready,
            counters,
            outages,
            worker,
            self.run_on,
            revocations,
            on_settled,
            log,
            self.measurements,
            self.paces,
        )

        models: dict[str, list[Any]] = {}
        for model, store in stores.items():
            models.setdefault(store.alias, []).append(model)
        self.heartbeat = Heartbeat(
            identity,
            models,
            settings,
            outages,
            duty,
            report,
            obedience,
            lambda alias: self.hints.unheard(alias),
            orders,
        )
        self.hints = HintListeners(
            stores,
            settings.hints,
            self.claimer,
            self.sweeper.hinted,
            self.renewer.look_for_revoked,
            self.heartbeat.look,
            wakeup.set,
            outages,
        )
        duty.hinted = self.hints

        def on_rescued(model: Any) -> None:
            self.claimer.hinted(model)
            wakeup.set()

        self.housekeeping = Housekeeping(
            stores,
            settings,
            counters,
            outages,
            worker,
            duty,
            self._may_be_due,
            on_rescued,
            limiter.pauses.ask if self.measurements is not None else None,
        )

    def _may_be_due(self, model: Any) -> bool:
        lanes = self.claimer.lanes
        return any(lanes.active(model, is_async) for is_async in (False, True))

    def loops(self) -> list[AbstractEventLoop]:
        """The event loops of async checks."""
        loops = (each.event_loops() for each in self.executors if isinstance(each, AsyncExecutor))
        return [loop for some in loops for loop in some]

    def _running(self) -> list[Work]:
        """All calls that were taken to be run and have not ended, those of abandoned ones, too."""
        running = [work for executor in self.executors for work in executor.running()]
        return running + self.ready.busy_with()

    def _on_released(self, store: Store, model: Any, keys: set[Any]) -> None:
        """Look when released rows are due, here and in other processes; so are their events."""
        wake_events_of(store, model, keys)
        self.claimer.look_again()
        self._wakeup.set()
        hint_due(model, store.alias, 0.0)


def _setting_aside(in_flight: InFlight, worker: str) -> Callable[[Work], None]:
    """What follows when a check is given up; the note of it must not hold up other deadlines."""

    def set_aside(work: Work) -> None:
        for attempt in attempts_of(work):
            in_flight.set_aside(attempt)
        note_abandoned(work, worker)

    return set_aside
