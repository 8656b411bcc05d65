"""The runner: builds its parts, goes round the main loop, shuts everything down in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner import preflight
from django_fsmworker.runner.async_checks.pool import AsyncPool
from django_fsmworker.runner.checking.abandoning import note_abandoned
from django_fsmworker.runner.checking.cancelling import Cancelling
from django_fsmworker.runner.checking.deadlines import Deadlines, shortest_deadline
from django_fsmworker.runner.checking.passing_on import PassOn
from django_fsmworker.runner.checking.pool import Pool
from django_fsmworker.runner.claiming.claimer import Claimer
from django_fsmworker.runner.claiming.renewer import Renewer
from django_fsmworker.runner.counters import Counters
from django_fsmworker.runner.database.connections import own_connections
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.database.patience import Patience, patience_of
from django_fsmworker.runner.guards.parts import GuardParts
from django_fsmworker.runner.hints import Hints
from django_fsmworker.runner.housekeeping import Housekeeping
from django_fsmworker.runner.identity import worker_name
from django_fsmworker.runner.settling.concluding import Losses
from django_fsmworker.runner.settling.running_on import RunOn
from django_fsmworker.runner.settling.settler import Settler
from django_fsmworker.runner.wakeup import Wakeup
from django_fsmworker.runner.watchdog import Liveness, Watchdog
from django_fsmworker.runner.work.attempt import WHOLE, Attempt
from django_fsmworker.runner.work.batch import Work, attempts_of
from django_fsmworker.runner.work.holdings import Holdings
from django_fsmworker.runner.work.ready import ReadyQueue
from django_fsmworker.runner.work.throughput import Throughput
from django_fsmworker.store import Outcome, stores_for

logger = logging.getLogger(__name__)


class StatorRunner:
    """Runs the lives of the rows of ``models`` (all with a state graph, if none are given).

    Options are those of ``conf.RunnerSettings``; ``task_deadline`` is the ancestor's word for
    ``deadline``. It works on any thread and touches no signal handler. One object runs once.
    """

    def __init__(
        self,
        models: Sequence[Any] | None = None,
        concurrency: int | None = None,
        concurrency_per_model: int | None = None,
        liveness_file: str | None = None,
        watchdog_interval: float | None = None,
        delete_interval: float | None = None,
        task_deadline: float | None = None,
        *,
        database: str | None = None,
        on_stall: Callable[[], None] = lambda: None,
        on_progress: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        options.setdefault("deadline", task_deadline)
        self.settings = RunnerSettings.load(
            concurrency=concurrency,
            concurrency_per_model=concurrency_per_model,
            liveness_file=liveness_file,
            watchdog_interval=watchdog_interval,
            delete_interval=delete_interval,
            **options,
        )
        models = preflight.models_to_run(models, database)
        self.stores = stores_for(models, database)
        self.worker = worker_name()
        self.counters = Counters()
        self.too_many_abandoned = False
        self._stopping = False
        self._runs_async = any(
            state.is_async for model in models for state in model.state_graph.states.values()
        )
        self._wake = Wakeup()
        self._build(on_stall, on_progress)

    def run(self, run_for: float | None = None) -> None:
        """Run for so many seconds; None: until ``stop()``; 0: one pass over what is due now.

        Raises ``ConfigurationError`` if a database cannot be reached or lacks a table, and inside a
        transaction of the caller, which the runner's threads could not see into.
        """
        preflight.refuse_transaction(self.stores)
        with own_connections({store.alias for store in self.stores.values()}):
            if not preflight.make_ready(
                self.stores, self.settings.connect_timeout, self._wake, lambda: self._stopping
            ):
                return
            if run_for == 0:
                self._claimer.only_what_is_due_now()
                self._guards.sweep_once(lambda: self._stopping)
            self._start()
            try:
                self._loop(run_for)
            finally:
                self._shut_down(one_pass=run_for == 0 and not self._stopping)

    def stop(self, timeout: float | None = None) -> None:
        """Ask the runner to stop; running checks get ``timeout`` seconds (None: as configured)."""
        if timeout is not None:
            self._drain_timeout = timeout
        self._stopping = True
        self._wake.set()

    def _build(self, on_stall: Callable[[], None], on_progress: Callable[[], None] | None) -> None:
        settings = self.settings
        self._drain_timeout = settings.drain_timeout
        self._outages = Outages(patience_of(settings))
        self._patience = Patience(self._outages)
        self._holdings = Holdings(on_remove=self._wake.set)
        self._settler = Settler(
            self._holdings,
            self.counters,
            self._outages,
            self.worker,
            self._settled,
            RunOn(settings.lease, self._may_run_on),
            lambda attempts: self._ready.put(attempts),
        )
        self._ready = ReadyQueue(
            settings.concurrency_per_model,
            give_back=lambda work: self._pass_on(work, None),
            low_water=self._wake.set,
        )
        most, lease = settings.max_in_flight, settings.lease
        self._throughputs = {
            False: Throughput(settings.concurrency, most, lease),
            True: Throughput(settings.async_concurrency, most, lease),
        }
        settle, wake = self._settler.inbox.put, self._wake.set
        self._pass_on = PassOn(settle, self._ready.put).over
        losses = Losses(self._outages)
        self._pool = Pool(settings.concurrency, self._ready, self._pass_on, self.worker, losses)
        self._async_pool = AsyncPool(
            settings, self._ready, self._pass_on, self.worker, losses, self._abandoned
        )
        self._guards = GuardParts(
            self.stores, self._ready, settle, self.counters, self._outages, self.worker, self._due
        )
        self._claimer = Claimer(
            self.stores,
            settings,
            self._holdings,
            self._guards.line,
            self._throughputs,
            self._outages,
            self._lost,
            losses.known,
        )
        self.hints = Hints(
            self.stores, settings.hints, self._claimer, self._guards.hinted, wake, self._outages
        )
        self._deadlines = Deadlines(
            self._pool,
            self._async_pool,
            losses,
            settings.deadline,
            shortest_deadline(self.stores, settings.deadline),
            settings.abandon_after,
            self._abandoned,
        )
        self._cancelling = Cancelling(
            self._pool, self._async_pool, self._deadlines, self._settler.supersede, self._pass_on
        )
        self._renewer = Renewer(self._holdings, self._ready, self._outages, lease, self._lost)
        self._housekeeping = Housekeeping(
            self.stores, settings, self.counters, self._outages, self.worker
        )
        self._essential = (self._settler, self._renewer, self._deadlines, self._patience)
        self._watchdog = Watchdog(settings.watchdog_interval, on_stall)
        self._liveness = Liveness(settings.liveness_file, on_progress)

    def _start(self) -> None:
        logger.info(
            "Running %s with %d threads as %s.",
            ", ".join(model._meta.label for model in self.stores),
            self.settings.concurrency,
            self.worker,
            extra={"action": "started", "worker": self.worker},
        )
        self._pool.fill()
        if self._runs_async:
            self._async_pool.start()
        for part in (*self._essential, self._watchdog):
            part.start()
        self._guards.start(self._claimer.single_pass)
        if not self._claimer.single_pass:
            self._housekeeping.start()
            self.hints.start()

    def _loop(self, run_for: float | None) -> None:
        """Claim while there is room and anything due; otherwise sleep until something changes."""
        end = None if not run_for else time.monotonic() + run_for
        while not self._stopping:
            self._wake.clear()
            self._watchdog.beat()
            self._pool.fill()
            self._check_parts()
            for kind, throughput in self._throughputs.items():
                throughput.measured(self._settler.settled[kind] / WHOLE)
            wait = self._look()
            if self._finished(end):
                return
            if end is not None:
                wait = min(wait, end - time.monotonic())
            self._wake.wait(min(wait, self.settings.watchdog_interval / 8))

    def _check_parts(self) -> None:
        """Without one of its parts a runner would look alive and do nothing."""
        for part in (*self._essential, *self._guards.threads):
            if not part.is_alive():
                raise RuntimeError(f"The thread {part.name} has ended; this runner ends, too.")
        if self._runs_async and not self._async_pool.is_alive():
            raise RuntimeError("The event loop's thread has ended; this runner ends, too.")

    def _look(self) -> float:
        """One round; returns how long there is nothing to do, unless somebody wakes the loop."""
        try:
            self._claimer.claim()
            self._claimer.peek()
            self.hints.probe()
        except Exception:
            logger.exception("Claiming failed; trying again.", extra={"action": "claim_failed"})
            return self.settings.poll_interval
        if self._claimer.makes_progress():
            self._liveness.touch()
        return self._claimer.seconds_to_wait()

    def _finished(self, end: float | None) -> bool:
        if self.too_many_abandoned:
            return True
        if self._claimer.single_pass:
            return self._claimer.exhausted and not len(self._holdings)
        return end is not None and time.monotonic() >= end

    def _shut_down(self, one_pass: bool) -> None:
        """Hand back what has not started, let what runs end, settle it, stop everything else."""
        self._watchdog.stop()  # a long drain is no stall; every wait from here on is bounded
        self._guards.stop_sweeping()
        self._ready.close(self.settings.concurrency)
        self._holdings.wait_until_empty(self._drain_timeout)
        self._cancelling.the_rest(self._drain_timeout)
        if self._runs_async:
            self._async_pool.stop(timeout=1.0)
        self._guards.stop()
        self._settler.stop(timeout=max(5.0, self._drain_timeout))
        if one_pass:
            self._housekeeping.delete_all_expired()
        parts = (self._renewer, self._deadlines, self._watchdog, self._housekeeping, self.hints)
        for part in parts:
            part.stop()
            if part.is_alive():
                part.join(5)
        self._housekeeping.finish()
        self._patience.stop()
        logger.info(
            "Stopped: %s.", self.counters, extra={"action": "stopped", "worker": self.worker}
        )

    def _settled(self, model: Any, outcomes: list[Outcome]) -> None:
        """Called by the settler after each write: its rows may be due again soon."""
        self._claimer.expect(model, [each for each in outcomes if not each.kept])
        self._guards.settled(model, outcomes)

    def _due(self, model: Any, state: str, due_in: float) -> None:
        """Called by a sweep: it has made rows of that state due."""
        self._claimer.wake(model, state, due_in)
        self._wake.set()

    def _may_run_on(self) -> bool:
        """Not in a single pass, which looks at what was due at its start, nor while stopping."""
        return not (self._stopping or self._ready.closed or self._claimer.single_pass)

    def _lost(self, attempts: list[Attempt]) -> None:
        """Called when rows are not ours any more."""
        self._cancelling.lost(attempts)

    def _abandoned(self, work: Work) -> None:
        """Called when a thread is given up. Writing that down must not hold up other deadlines."""
        for attempt in attempts_of(work):
            self._holdings.set_aside(attempt)
        note_abandoned(work, self.worker)
        if self._pool.abandoned + self._async_pool.abandoned > self.settings.max_abandoned:
            self.too_many_abandoned = True
            self._wake.set()
