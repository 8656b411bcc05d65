"""The runners of one process: a single one, or one for each database that is named.

Each has a claimer, threads and connections of its own, so that an outage of one database, or checks
that hang there, take nothing from the rows of another. In the registry they are one worker.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.hooks import Hooks
from django_fsmworker.runner.identity import identity_of
from django_fsmworker.runner.main_loop import Liveness, Wakeup
from django_fsmworker.runner.preflight import Unreachable
from django_fsmworker.runner.stator_runner import OneWorker, StatorRunner

logger = logger_for(__name__)

# Seconds between tries to reach a database at the start, while the runners of others are at work.
TRY_AGAIN = 1.0


class RunnerGroup:
    """Runners of ``models`` by database (None: of those to which routers write each model).

    Options are those of ``StatorRunner``, each for every database; what bounds the memory of rows
    is divided. Raises ``ConfigurationError``.
    """

    def __init__(self, models: Mapping[str | None, Sequence[Any]], **options: Any) -> None:
        self._models = models
        self._options = options
        self._stopping = False
        self._wake = Wakeup()
        self._health_address = ""
        self._up: set[str | None] = set()
        self._told: set[str | None] = set()
        self._lock = threading.Lock()
        self._tell: Callable[[], None] = lambda: None
        self.runners: list[StatorRunner] = []
        """One for each database, in their order."""
        self._worker = self._share(options) if len(models) > 1 else None
        for alias in models:
            self.runners.append(self._make(alias))

    def _share(self, options: Mapping[str, Any]) -> OneWorker:
        """Make one worker of several runners, which one stops that reaches a limit."""
        known = RunnerSettings.names()
        settings = RunnerSettings.load(**{k: v for k, v in options.items() if k in known})
        every = dict.fromkeys(model for some in self._models.values() for model in some)
        aliases = [alias for alias in self._models if alias is not None]
        identity = identity_of(every, settings, aliases)
        worker = OneWorker(identity, runners=self.runners, hooks=Hooks.of(settings))
        worker.orders.listeners.append(self._look_for_orders)
        self._tell = options.get("on_progress") or Liveness(settings.liveness_file).touch_file
        self._options = {**options, "worker": worker}
        self._options.setdefault("on_limit", self.stop)
        if settings.max_in_flight_megabytes:
            share = max(1, settings.max_in_flight_megabytes // len(self._models))
            self._options["max_in_flight_megabytes"] = share
        return worker

    def _make(self, alias: str | None) -> StatorRunner:
        options = self._options
        if self._worker is not None:
            options = {**options, "on_progress": lambda: self._progressed(alias)}
        runner = StatorRunner(self._models[alias], database=alias, **options)
        if self._health_address:
            runner.health_address = self._health_address
        return runner

    @property
    def settings(self) -> RunnerSettings:
        """The settings in force, which are the same for all."""
        return self.runners[0].settings

    @property
    def health_address(self) -> str:
        """Where this process serves its pages on health, as its records say."""
        return self._health_address

    @health_address.setter
    def health_address(self, address: str) -> None:
        self._health_address = address
        for runner in self.runners:
            runner.health_address = address

    @property
    def ordered_to_stop(self) -> bool:
        """Whether an order has ended it."""
        return any(each.ordered_to_stop for each in self.runners)

    @property
    def too_many_abandoned(self) -> bool:
        """Whether it has ended since too many checks did not."""
        return any(each.too_many_abandoned for each in self.runners)

    @property
    def limit_reached(self) -> bool:
        """Whether it has reached a limit such as ``max_tasks``."""
        return any(each.limit_reached for each in self.runners)

    def stop(self) -> None:
        """Ask all to stop; a signal handler may do so."""
        self._stopping = True
        for runner in self.runners:
            runner.stop()
        self._wake.set()

    def run(self, run_for: float | None = None) -> None:
        """Run all, as ``StatorRunner.run()`` does, until the last has ended.

        If one ends before its time, the others end, too. A database that cannot be reached at the
        start is tried again and again once the runner of another one is at work.
        """
        if self._worker is None:
            self.runners[0].run(run_for)
            return
        ended: queue.SimpleQueue[tuple[str | None, BaseException | None]] = queue.SimpleQueue()
        for number, alias in enumerate(self._models):
            name = f"fsmworker-runner-{alias}"
            arguments = number, alias, run_for, ended
            threading.Thread(target=self._run, args=arguments, name=name, daemon=True).start()
        first: BaseException | None = None
        for _ in self._models:
            alias, error = ended.get()
            first = first or error
            with self._lock:
                self._up.discard(alias)
            if error is not None or run_for is None:
                self.stop()
        if self._worker.hooks is not None:
            self._worker.hooks.end()
        if first is not None:
            raise first

    def _run(
        self,
        number: int,
        alias: str | None,
        run_for: float | None,
        ended: queue.SimpleQueue[tuple[str | None, BaseException | None]],
    ) -> None:
        error: BaseException | None = None
        try:
            while not self._has_run(number, alias, run_for):
                self.runners[number] = self._make(alias)
                if self._stopping:
                    break
        except BaseException as raised:
            error = raised
        ended.put((alias, error))

    def _has_run(self, number: int, alias: str | None, run_for: float | None) -> bool:
        """Run one to its end; False if its database could not be reached, and others' could."""
        try:
            self.runners[number].run(run_for)
        except Unreachable as error:
            if run_for is not None or not self._up or self._stopping:
                raise
            logger.error(
                "The rows of the database %r wait until it can be reached; those of others are "
                "run meanwhile. (%s)",
                alias,
                error,
                extra={"action": "unreachable", "database": alias},
            )
            self._wake.wait(TRY_AGAIN)
            return False
        return True

    def _progressed(self, alias: str | None) -> None:
        """Tell of progress as soon as each that has come up has told of its own."""
        with self._lock:
            self._up.add(alias)
            self._told.add(alias)
            if not self._up <= self._told:
                return
            self._told.clear()
        self._tell()

    def _look_for_orders(self) -> None:
        for runner in self.runners:
            runner.parts.heartbeat.look()
