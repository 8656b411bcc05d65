"""The runner: its main loop, and its shutdown in order."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.logs import logger_for
from django_fsmworker.models.bulk_action import is_bulk_action
from django_fsmworker.runner import preflight
from django_fsmworker.runner.assembly import Parts
from django_fsmworker.runner.counters import Counters
from django_fsmworker.runner.database.connections import own_connections
from django_fsmworker.runner.heartbeat import Obedience, Orders, Report
from django_fsmworker.runner.hooks import Hooks
from django_fsmworker.runner.identity import Identity, identity_of
from django_fsmworker.runner.in_flight.attempts import WHOLE
from django_fsmworker.runner.main_loop import Liveness, Wakeup, Watchdog
from django_fsmworker.runner.process_limits import ProcessLimits
from django_fsmworker.runner.stacks import stacks
from django_fsmworker.runner.status import RunnerStatus, report_of, status_of, together
from django_fsmworker.store import stores_for

logger = logger_for(__name__)

GUARD_PATIENCE = 5.0


@dataclass(slots=True)
class OneWorker:
    """What runners have in common that are one process: they are one worker in the registry.

    An order that one of them finds in its database is obeyed by all ``runners``, and what they do
    is added up. The hooks are those of the process, which whoever runs them ends.
    """

    identity: Identity
    orders: Orders = field(default_factory=Orders)
    runners: list[StatorRunner] = field(default_factory=list)
    hooks: Hooks | None = None


class StatorRunner:
    """Runs the rows of ``models`` through their states (of all with a graph, if none are given).

    Options are those of ``conf.RunnerSettings``; ``task_deadline`` is the ancestor's word for
    ``deadline``. ``database`` is an alias: only models that are kept there, as it stands by default
    where routers write them. ``on_stall`` is called when the main loop has not come round for
    ``watchdog_interval`` seconds; ``on_progress`` replaces the liveness file. ``on_limit`` is
    called once when a limit such as ``max_tasks`` is reached; by default the runner stops then.
    ``worker`` is what the runners of several databases have in common in one process.

    A runner works on any thread and touches no signal handler. One object runs once. Raises
    ``ConfigurationError`` for settings that are wrong, and if there is nothing to run.
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
        on_limit: Callable[[], None] | None = None,
        worker: OneWorker | None = None,
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
        aliases = [store.alias for store in self.stores.values()]
        self._one = worker or OneWorker(identity_of(self.stores, self.settings, aliases))
        identity = self._one.identity
        self.worker, self.worker_name = identity.id, identity.name
        self.counters = Counters()
        self.too_many_abandoned = self.limit_reached = False
        self._limits = ProcessLimits.of(self.settings, self._total)
        self._on_limit = on_limit or self.stop
        self.rounds = 0
        self._progressed_at: float | None = None
        self._stopping = False
        self._drain_timeout = self.settings.drain_timeout
        self._wake = Wakeup()
        self._hooks = Hooks.of(self.settings) if worker is None else worker.hooks
        self._ends_hooks = worker is None
        self.ordered_to_stop = False
        obedience = Obedience(self._suspend, self._resume, self._obey_stop, self._stacks)
        self.parts = Parts(
            self.stores,
            self.settings,
            self.counters,
            identity,
            self._wake,
            self._report,
            obedience,
            self._one.orders,
        )
        self.hints = self.parts.hints
        self._watchdog = Watchdog(self.settings.watchdog_interval, on_stall)
        self._liveness = Liveness(self.settings.liveness_file, on_progress)

    def run(self, run_for: float | None = None) -> None:
        """Run for ``run_for`` seconds; None: until ``stop()``; 0: one pass over what is due now.

        Raises ``ConfigurationError`` if a database cannot be reached or lacks a table, and inside a
        transaction of the caller, which the runner's threads could not see into.
        """
        preflight.refuse_manual_commits(self.stores)
        preflight.refuse_transaction(self.stores)
        preflight.warn_of_variables()
        with own_connections({store.alias for store in self.stores.values()}):
            if not preflight.make_ready(
                self.stores,
                self.settings.connect_timeout,
                self._wake,
                self._is_stopping,
                self._learn_limits,
            ):
                return
            self._say_what_runs()
            # A supervisor has to know that this process came up before any code of the project's
            # runs: what ends it from here on is no matter of its configuration.
            self._liveness.touch()
            if self._hooks is None:
                self._run_rows(run_for)
                return
            self._hooks.begin(self, self._is_stopping)
            try:
                self._run_rows(run_for)
            finally:
                if self._ends_hooks:
                    self._hooks.end()

    def _is_stopping(self) -> bool:
        return self._stopping

    def _run_rows(self, run_for: float | None) -> None:
        if run_for == 0:
            self.parts.claimer.only_what_is_due_now()
            self.parts.run_on.forbid()
            self.parts.sweeper.sweep_once(self._is_stopping)
        self._start()
        try:
            self._loop(run_for)
        finally:
            self._shut_down(one_pass=run_for == 0 and not self._stopping)

    def _learn_limits(self) -> None:
        longest = self.parts.longest_statement
        self.parts.statement_limits.update(preflight.statement_limits(self.stores, longest))

    async def arun(self, run_for: float | None = None) -> None:
        """Run as ``run()`` does, for code on an event loop, which goes on meanwhile.

        The runner has a thread of its own. Whoever cancels this stops the runner, and waits until
        it has stopped; ``stop()`` ends it, too. It looks for no transaction of the caller's.
        """
        ended: Future[None] = Future()
        threading.Thread(
            target=self._run_into, args=(ended, run_for), name="fsmworker-runner", daemon=True
        ).start()
        waiting = asyncio.wrap_future(ended)
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            self.stop()
            await asyncio.wait([waiting])
            raise

    def _run_into(self, ended: Future[None], run_for: float | None) -> None:
        try:
            self.run(run_for)
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    def stop(self, timeout: float | None = None) -> None:
        """Ask the runner to stop; running checks get ``timeout`` seconds (None: as configured)."""
        if timeout is not None:
            self._drain_timeout = timeout
        self._stopping = True
        self.parts.run_on.forbid()
        self.parts.heartbeat.look()
        self._wake.set()

    @property
    def worker_id(self) -> str:
        """The id of this runner's record in the registry of workers."""
        return self.parts.heartbeat.worker_id

    @property
    def health_address(self) -> str:
        """Where this process serves its pages on health, as its record says; empty if nowhere."""
        return self.parts.heartbeat.health_address

    @health_address.setter
    def health_address(self, address: str) -> None:
        self.parts.heartbeat.health_address = address

    def _own_report(self) -> Report:
        return report_of(self.parts, self.counters, stopping=self._stopping)

    def _report(self) -> Report:
        return together(self._own_report(), (each._own_report() for each in self._others()))

    def _others(self) -> list[StatorRunner]:
        return [each for each in self._one.runners if each is not self]

    def _total(self, name: str) -> int:
        return sum(each.counters.total(name) for each in (self, *self._others()))

    def _suspend(self) -> None:
        """Take up nothing more, and give back what has not started; what runs goes on."""
        self.parts.duty.suspend()
        self.parts.ready.give_back_waiting()

    def _resume(self) -> None:
        self.parts.duty.resume()

    def _obey_stop(self) -> None:
        self.ordered_to_stop = True
        self.stop()

    def _stacks(self) -> str:
        return stacks(self.parts.loops())

    def status(self) -> RunnerStatus:
        """A read-only picture of the runner at this moment; called at any time, on any thread."""
        aliases = dict.fromkeys(store.alias for store in self.stores.values())
        return status_of(
            self.parts,
            self.worker,
            self.counters,
            aliases,
            stopping=self._stopping,
            rounds=self.rounds,
            progressed_at=self._progressed_at,
        )

    def _say_what_runs(self) -> None:
        logger.info(
            "Running %s with %d threads as %s (process %d).",
            ", ".join(each._meta.label for each in self.stores if not is_bulk_action(each)),
            self.settings.concurrency,
            self.worker,
            os.getpid(),
            extra={"action": "started", "worker": self.worker},
        )

    def _start(self) -> None:
        for executor in self.parts.executors:
            executor.start()
        for part in (*self._essential, self._watchdog):
            part.start()
        if not self.parts.claimer.single_pass:
            self.parts.heartbeat.start()
            self.parts.housekeeping.start()
            self.parts.hints.start()

    @property
    def _essential(self) -> Sequence[threading.Thread]:
        """The threads without which the runner would look alive and do nothing."""
        parts = self.parts
        threads: list[threading.Thread] = [
            parts.settler,
            parts.renewer,
            parts.deadlines,
            parts.query_watchdog,
        ]
        if parts.evaluator is not None:
            threads.append(parts.evaluator)
        if parts.sweeper.models and not parts.claimer.single_pass:  # which has swept already
            threads.append(parts.sweeper)
        if parts.heartbeat.ident is not None:
            threads.append(parts.heartbeat)
        return threads

    def _loop(self, run_for: float | None) -> None:
        """Claim while slots are free and rows due; otherwise sleep until something changes."""
        end = None if not run_for else time.monotonic() + run_for
        settled = self.parts.settler.settled
        while not self._stopping:
            self._wake.clear()
            self.rounds += 1
            self._watchdog.beat()
            self._check_parts()
            for is_async, prefetch in self.parts.prefetch.items():
                prefetch.measured(settled[is_async] / WHOLE)
            wait = self._look()
            if self.parts.log.untold:
                self.parts.log.sum_up()
            if self._finished(end):
                return
            if end is not None:
                wait = min(wait, end - time.monotonic())
            self._wake.wait(min(wait, self.settings.watchdog_interval / 8))

    def _check_parts(self) -> None:
        """Replace what can be replaced; ``RuntimeError`` if an essential part has ended."""
        for executor in self.parts.executors:
            executor.ensure_running()
        for part in self._essential:
            if not part.is_alive():
                raise RuntimeError(f"The thread {part.name} has ended; this runner ends, too.")

    def _look(self) -> float:
        """Claim, once; returns the seconds in which there is nothing to do, unless woken."""
        claimer = self.parts.claimer
        try:
            claimer.claim()
            claimer.peek()
            self.parts.hints.probe()
        except Exception:
            logger.exception("Claiming failed; trying again.", extra={"action": "claim_failed"})
            return self.settings.poll_interval
        if claimer.makes_progress():
            self._progressed_at = time.monotonic()
            self._liveness.touch()
        else:
            self._progressed_at = float("-inf")
        return claimer.seconds_to_wait()

    def _finished(self, end: float | None) -> bool:
        abandoned = sum(executor.abandoned for executor in self.parts.executors)
        if abandoned > self.settings.max_abandoned:
            self.too_many_abandoned = True
            return True
        if self._limits is not None and not self.limit_reached:
            self._look_at_limits(self._limits)
        if self.parts.claimer.single_pass:
            return self.parts.claimer.exhausted and not self._has_rows_to_wait_for()
        return end is not None and time.monotonic() >= end

    def _look_at_limits(self, limits: ProcessLimits) -> None:
        reached = limits.reached()
        if reached is not None:
            self.limit_reached = True
            logger.info(
                "This process has reached %s; it is to end, and another one to go on.",
                reached,
                extra={"action": "limit_reached", "worker": self.worker},
            )
            self._on_limit()

    def _has_rows_to_wait_for(self) -> bool:
        """Whether rows are in flight; those of models that rest do not count."""
        resting = self.parts.outages.mismatches.resting()
        in_flight = self.parts.in_flight
        if not resting:
            return bool(len(in_flight))
        return any(each.model not in resting for each in in_flight.all())

    def _shut_down(self, one_pass: bool) -> None:
        """Hand back what has not started, let what runs end, settle it, stop everything else."""
        parts = self.parts
        self._watchdog.stop()  # a long drain is no stall; every wait from here on is bounded
        parts.run_on.forbid()
        parts.sweeper.stop()
        parts.ready.close(self.settings.concurrency)
        parts.in_flight.wait_until_empty(self._drain_timeout)
        parts.canceller.the_rest(self._drain_timeout)
        for executor in parts.executors:
            executor.stop(timeout=1.0)
        parts.call_threads.stop(timeout=1.0)  # after those whose checks may call, cancelled or not
        if parts.evaluator is not None:
            parts.evaluator.stop(GUARD_PATIENCE)
        if parts.sweeper.is_alive():
            parts.sweeper.join(GUARD_PATIENCE)
        parts.settler.stop(timeout=max(5.0, self._drain_timeout))
        parts.limiter.close()
        if one_pass:
            parts.housekeeping.delete_all_expired()
        others = (
            parts.renewer, parts.deadlines, self._watchdog, parts.housekeeping, parts.hints,
            parts.heartbeat,
        )  # fmt: skip
        for part in others:
            part.stop()
            if part.is_alive():
                part.join(5)
        parts.log.sum_up(at_the_end=True)
        parts.housekeeping.finish()
        parts.query_watchdog.stop(5)  # the last, for the others' queries until then
        logger.info(
            "Stopped: %s.", self.counters, extra={"action": "stopped", "worker": self.worker}
        )
