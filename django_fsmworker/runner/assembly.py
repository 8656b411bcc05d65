"""Assembling a runner: which parts it has, and which of them know each other.

A row's way is claimer → intake → ready queue → executor → result queue → settler. Each part gets
those that are made before it.
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
from django_fsmworker.runner.claiming.renewer import PermitRenewal, Renewer
from django_fsmworker.runner.counters import Counters
from django_fsmworker.runner.database.outages import OutageTracker, QueryWatchdog, query_timeouts
from django_fsmworker.runner.execution.attempt_log import AttemptLog
from django_fsmworker.runner.execution.engine_spans import EngineSpans
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
        self._stores, self._settings, self._counters = stores, settings, counters
        self._wakeup, self._worker = wakeup, identity.id
        self.measurements = Measurements.of(settings)
        self.paces = Paces()
        self.duty = Duty(on_change=wakeup.set)
        self.outages = OutageTracker(query_timeouts(settings))
        self.query_watchdog = QueryWatchdog(self.outages)
        self.log = AttemptLog(self._worker, settings.check_logger)
        self._spans = EngineSpans.of(settings, self._worker)
        self._states = [state for model in stores for state in model.state_graph.states.values()]
        self._losses = LostConnections(self.outages)
        self._make_queues()
        self._make_executors()
        self._make_claiming()
        self._make_settling()
        self._make_links(identity, report, obedience, orders)
        self._make_housekeeping()

    def _make_queues(self) -> None:
        """What is in flight, and the queues where it waits for an executor and for the settler."""
        self.in_flight = InFlight(self._counters, self._wakeup.set, self._worker)
        self._results = ResultQueue()
        self.ready = ReadyQueue(
            self._settings.concurrency_per_model,
            give_back=self._results.hand_back,
            low_water=self._wakeup.set,
        )
        self._on_result = ResultRouter(self._results.put, self.ready.put).route
        has_guards = any(state.guards for state in self._states)
        self.evaluator = (
            GuardEvaluator(self.ready, self._results, self.outages, self._spans)
            if has_guards
            else None
        )
        self.queue: WorkQueue = self.evaluator or self.ready

    def _make_executors(self) -> None:
        """What runs checks, and what ends those that overran, or whose rows were lost."""
        settings = self._settings
        # Filled when the databases have been asked for limits of their own.
        self.statement_limits: dict[str, float] = {}
        limits = self.statement_limits
        self.call_threads = CallThreads(settings.async_threads, self.outages, limits)
        common = (
            settings,
            self.ready,
            self._on_result,
            self.log,
            self._losses,
            _setting_aside(self.in_flight, self._worker),
            self.call_threads,
            AttemptMiddleware.of(settings, self._worker),
        )
        self.executors: tuple[Executor, ...] = (ThreadExecutor(*common, limits),)
        if any(state.is_async for state in self._states):
            self.executors += (AsyncExecutor(*common),)
        longest = longest_deadline(self._states, settings.deadline)
        self.longest_statement = longest + max(STATEMENT_GRACE, settings.abandon_after)
        self.deadlines = Deadlines(
            self.executors, shortest_deadline(self._states, settings.deadline)
        )
        self.canceller = Canceller(
            self.executors, self.in_flight, self._on_result, self.deadlines.look_again
        )

    def _make_claiming(self) -> None:
        """What claims rows, renews their leases, and moves those that need no check."""
        stores, settings, in_flight = self._stores, self._settings, self.in_flight
        most, lease = settings.max_in_flight, settings.lease
        self.prefetch = {
            False: Prefetch(settings.concurrency, most, lease),
            True: Prefetch(settings.async_concurrency, most, lease),
        }
        capacity = Capacity(settings, in_flight, self.queue, self.prefetch, stores)
        slots = {False: settings.concurrency, True: settings.async_concurrency}
        self.ready.share(Shares(stores, slots))
        intake = Intake(in_flight, self.queue, self.canceller.lost, self._losses.known)
        self.limiter = limiter = Limiter(stores, settings, in_flight, self._running, self._worker)
        stops = limiter.stops_work if limiter.has_limits else limiter.pauses.stops_work
        self.ready.stops = stops
        self.claimer = Claimer(
            stores,
            settings,
            capacity,
            intake,
            self.outages,
            limiter,
            self.duty,
            self.measurements,
            self._spans,
        )
        self._revocations = Revocations(
            in_flight, self.canceller.revoked, self._running, lease, self._on_released
        )
        self.renewer = Renewer(
            in_flight,
            self.ready,
            self.outages,
            lease,
            self.canceller.lost,
            self._revocations,
            PermitRenewal(limiter.renewed_stores(), limiter.renew, self.canceller.interrupt),
        )
        self.sweeper = Sweeper(
            stores,
            self._counters,
            self.outages,
            self._worker,
            self.claimer.lanes.wake,
            self._wakeup.set,
            self.duty,
            self.log,
            limiter.pauses.stops_now,
            self._spans,
        )

    def _make_settling(self) -> None:
        """What writes outcomes, and who is told of what was written."""
        limiter = self.limiter
        self.run_on = RunOn(self._settings.lease, self._worker, self.duty, limiter.pauses.stops)
        on_settled: list[OnSettled] = [self.claimer.lanes.expect, limiter.pauses.note]
        if limiter.has_limits:
            on_settled.append(limiter.settled)
        if self.sweeper.models:
            on_settled.append(self.sweeper.settled)
        self.settler = Settler(
            self.in_flight,
            self._results,
            self.ready,
            self._counters,
            self.outages,
            self._worker,
            self.run_on,
            self._revocations,
            on_settled,
            self.log,
            self.measurements,
            self.paces,
            self._spans,
        )

    def _make_links(
        self,
        identity: Identity,
        report: Callable[[], Report],
        obedience: Obedience,
        orders: Orders,
    ) -> None:
        """The links to other processes: the registry of workers, and hints."""
        models: dict[str, list[Any]] = {}
        for model, store in self._stores.items():
            models.setdefault(store.alias, []).append(model)
        self.heartbeat = Heartbeat(
            identity,
            models,
            self._settings,
            self.outages,
            self.duty,
            report,
            obedience,
            lambda alias: self.hints.unheard(alias),
            orders,
        )
        self.hints = HintListeners(
            self._stores,
            self._settings.hints,
            self.claimer,
            self.sweeper.hinted,
            self.renewer.look_for_revoked,
            self.heartbeat.look,
            self._wakeup.set,
            self.outages,
        )
        self.duty.hinted = self.hints

    def _make_housekeeping(self) -> None:
        """What is done beside moving rows."""
        self.housekeeping = Housekeeping(
            self._stores,
            self._settings,
            self._counters,
            self.outages,
            self._worker,
            self.duty,
            self._may_be_due,
            self._on_rescued,
            self.limiter.pauses.ask if self.measurements is not None else None,
        )

    def _on_rescued(self, model: Any) -> None:
        self.claimer.hinted(model)
        self._wakeup.set()

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
