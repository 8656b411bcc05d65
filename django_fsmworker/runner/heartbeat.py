"""The heartbeat of a runner: its signs of life in the registry, and the orders it gets with them.

The one statement that says that a runner lives, and what it does, brings its orders back. A thread
of its own sends it: checks may block, and the main loop may wait.
"""

from __future__ import annotations

import platform
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

import django
from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Q

from django_fsmworker import __version__
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.graph.fingerprint import fingerprint
from django_fsmworker.logs import logger_for
from django_fsmworker.models.event import is_event
from django_fsmworker.models.functions import DatabaseLater, DatabaseNow, update_row
from django_fsmworker.models.worker import Worker, WorkerStatus
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuards
from django_fsmworker.runner.identity import Identity
from django_fsmworker.runner.main_loop import Duty, Wakeup
from django_fsmworker.store.drivers import discard
from django_fsmworker.store.errors import is_refusal

logger = logger_for(__name__)

# Seconds between looks for orders of a runner that is busy, where no hint tells of any.
BUSY_INTERVAL = 1.5
# A runner counts itself as lost after this part of its timeout: before others do.
OWN_PART = 5 / 6
ORDERS = ("wanted", "stacks_wanted")
VERSIONS = {
    "django_fsmworker": __version__,
    "django": django.get_version(),
    "python": platform.python_version(),
}
# What a process is taken to want to be, where its record has to be written anew.
WANTED = {
    WorkerStatus.READY: WorkerStatus.READY,
    WorkerStatus.SUSPENDED: WorkerStatus.SUSPENDED,
    WorkerStatus.STOPPING: WorkerStatus.STOPPED,
    WorkerStatus.STOPPED: WorkerStatus.STOPPED,
}


@dataclass(frozen=True, slots=True)
class Report:
    """What a runner says of itself with a sign of life. Busy: there are rows, or were just now.

    ``pace`` is told in the database of each model only.
    """

    busy: bool
    stopping: bool
    in_flight: int
    running: list[dict[str, Any]]
    totals: Mapping[str, int]
    pace: Mapping[Any, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Obedience:
    """What is done about orders; called on the heartbeat's thread. ``stacks`` returns a text."""

    suspend: Callable[[], None]
    resume: Callable[[], None]
    stop: Callable[[], None]
    stacks: Callable[[], str]


class Orders:
    """What a process is told to be, by database; all heartbeats of the process obey all of it."""

    def __init__(self) -> None:
        self._wanted: dict[str, str] = {}
        self._lock = threading.Lock()
        self.listeners: list[Callable[[], None]] = []
        """Called when something else is wanted in any of the databases."""

    @property
    def wanted(self) -> set[str]:
        """What is wanted in one database at least."""
        with self._lock:
            return set(self._wanted.values())

    def note(self, alias: str, wanted: str) -> None:
        """Note what is wanted in that database now, and call the listeners if that is news."""
        with self._lock:
            is_news = self._wanted.get(alias) != wanted
            self._wanted[alias] = wanted
        for listener in self.listeners if is_news else ():
            listener()


class Heartbeat(threading.Thread):
    """A thread that gives signs of life, in every database served, and obeys orders.

    ``report`` tells what to say. Where no hints tell of orders, it looks for them every two seconds
    while there are rows to claim, and before the first after a pause. What is written ``unheard``
    does not wake this runner's own parts.
    """

    def __init__(
        self,
        identity: Identity,
        models: Mapping[str, list[Any]],
        settings: RunnerSettings,
        outages: OutageTracker,
        duty: Duty,
        report: Callable[[], Report],
        obedience: Obedience,
        unheard: Callable[[str], AbstractContextManager[None]],
        orders: Orders,
    ) -> None:
        super().__init__(name="fsmworker-heartbeat", daemon=True)
        self.health_address = ""
        self._identity = identity
        self._models = models
        self._settings = settings
        self._duty = duty
        self._report = report
        self._obedience = obedience
        self._unheard = unheard
        self._query_guards = QueryGuards(outages, models)
        self._registered: set[str] = set()
        self._orders = orders
        self._stacks: dict[str, tuple[int, str]] = {}
        self._given: dict[str, int] = {}
        self._began = time.monotonic()
        self._silent: set[str] = set()
        self._asked = Wakeup()  # a signal handler may ask, too
        self._stopped = False
        self._stop_ordered = False

    @property
    def worker_id(self) -> str:
        """The id in the registry."""
        return self._identity.id

    def run(self) -> None:
        own = ThreadConnections(beside_pool=True)
        try:
            while not self._stopped:
                self._asked.wait(self._beat())
            self._say_everywhere(WorkerStatus.STOPPED, self._report())
        finally:
            own.close()

    def start(self) -> None:
        """Begin; from now on silence counts."""
        for alias in self._models:
            self._duty.known_until(alias, time.monotonic() + self._settings.heartbeat_timeout)
        super().start()
        self._duty.ask = self.look

    def stop(self) -> None:
        """Say that the runner has stopped, and end the thread."""
        self._stopped = True
        self._asked.set()

    def look(self) -> None:
        """Give a sign of life and look for orders now, on this thread; called by any other."""
        self._asked.set()

    def _beat(self) -> float:
        """Give a sign of life everywhere, and obey; returns the seconds until the next one."""
        report, began = self._report(), time.monotonic()
        status = self._status(report)
        again = self._say_everywhere(status, report)
        self._obey()
        self._duty.looked(began)  # not before orders are obeyed: a claim may wait for this
        if self._status(report) != status or (self._stacks and again == float("inf")):
            return 0.0  # what has come of an order is to be seen soon
        hurried = report.busy and not self._duty.hears_of_orders
        interval = self._settings.heartbeat_interval
        return min(again, interval, BUSY_INTERVAL if hurried else interval)

    def _status(self, report: Report) -> WorkerStatus:
        if report.stopping or self._stop_ordered:
            return WorkerStatus.STOPPING
        return WorkerStatus.SUSPENDED if self._duty.suspended else WorkerStatus.READY

    def _say_everywhere(self, status: WorkerStatus, report: Report) -> float:
        """Say it in every database; returns the seconds until the next try in one that failed."""
        now, again = time.monotonic(), float("inf")
        for alias, query_guard in self._query_guards.items():
            if query_guard.retry_at > now and not self._stopped:
                again = min(again, query_guard.retry_at - now)
            else:
                again = min(again, self._try(alias, status, report))
        return again

    def _try(self, alias: str, status: WorkerStatus, report: Report) -> float:
        query_guard, sent = self._query_guards[alias], time.monotonic()
        try:
            with query_guard.asking(), self._unheard(alias):
                self._say(alias, status, report)
            query_guard.succeeded()
        except (DatabaseError, InterfaceError) as error:
            self._note_silence(alias)
            if not is_refusal(error):
                return query_guard.failed(error)
            self._say_failed(alias)
        except Exception:
            self._say_failed(alias)
        else:
            self._duty.known_until(alias, sent + self._settings.heartbeat_timeout * OWN_PART)
            self._note_voice(alias)
        return float("inf")

    def _say(self, alias: str, status: WorkerStatus, report: Report) -> None:
        """One statement where an UPDATE returns rows; the first one is an INSERT."""
        values: dict[str, Any] = {
            "status": status,
            "in_flight": report.in_flight,
            "running": report.running,
            "totals": dict(report.totals),
            "pace": [each for model in self._models[alias] for each in report.pace.get(model, ())],
            "heartbeat": DatabaseNow(),
            "expires": DatabaseLater(self._settings.heartbeat_timeout),
        }
        number, stacks = self._stacks.pop(alias, (0, ""))
        if number:
            values |= {"stacks": stacks, "stacks_given": number}
        if alias not in self._registered:
            self._register(alias, values)
            return
        own = Worker.objects.using(alias).filter(pk=self._identity.id)
        orders = update_row(own, Q(incarnation=self._identity.incarnation), values, ORDERS)
        if orders is None:
            self._registered.discard(alias)
            if own.exists():
                self._give_way()
            self._register(alias, values)
            return
        self._orders.note(alias, orders["wanted"])
        self._ask_for_stacks(alias, orders["stacks_wanted"])

    def _register(self, alias: str, values: dict[str, Any]) -> None:
        """Write a whole record, in the place of one that an earlier process with this id left."""
        identity, settings = self._identity, self._settings
        lived = time.monotonic() - self._began
        record = Worker(
            id=identity.id,
            incarnation=identity.incarnation,
            name=identity.name,
            host=identity.host,
            pid=identity.pid,
            health_address=self.health_address,
            served={
                each._meta.label: fingerprint(each.state_graph)
                for each in self._models[alias]
                if not is_event(each)  # who runs rows delivers their events
            },
            versions=VERSIONS,
            options={**asdict(settings), "databases": identity.databases},
            started=DatabaseLater(-lived),
            wanted=WANTED[values["status"]],
            **values,
        )
        columns = [each.name for each in Worker._meta.concrete_fields if not each.primary_key]
        targets = connections[alias].features.supports_update_conflicts_with_target
        Worker.objects.using(alias).bulk_create(
            [record],
            update_conflicts=True,
            unique_fields=["id"] if targets else None,
            update_fields=columns,
        )
        self._registered.add(alias)
        self._orders.note(alias, record.wanted)
        self._given[alias] = record.stacks_given

    def _give_way(self) -> None:
        """Take another id, since another process has registered with this one."""
        taken = self._identity.id
        self._identity = replace(
            self._identity,
            id=f"{taken}+{secrets.token_hex(4)}",
            incarnation=secrets.randbits(62),
        )
        self._registered.clear()
        logger.error(
            "Another process has registered as the worker %s; this one goes on as %s. Give each "
            "process a worker_id of its own, or none.",
            taken,
            self._identity.id,
            extra={"action": "id_taken", "worker": self._identity.id},
        )

    def _ask_for_stacks(self, alias: str, wanted: int) -> None:
        if wanted > self._given[alias]:
            self._given[alias] = wanted
            self._stacks[alias] = wanted, self._obedience.stacks()

    def _obey(self) -> None:
        """Do what is wanted in any of the databases; to stop goes before to suspend."""
        wanted = self._orders.wanted
        if WorkerStatus.STOPPED in wanted:
            if not self._stop_ordered:
                self._stop_ordered = True
                self._say_order("stop")
                self._obedience.stop()
        elif WorkerStatus.SUSPENDED in wanted:
            if not self._duty.suspended:
                self._say_order("suspend")
            self._obedience.suspend()  # once more each time: a claim may have been under way
        elif self._duty.suspended:
            self._say_order("resume")
            self._obedience.resume()

    def _say_order(self, order: str) -> None:
        logger.info(
            "The worker %s has been told to %s.",
            self._identity.id,
            order,
            extra={"action": "order", "worker": self._identity.id, "order": order},
        )

    def _note_silence(self, alias: str) -> None:
        if self._duty.is_unknown(alias) and alias not in self._silent:
            self._silent.add(alias)
            logger.warning(
                "The worker %s claims nothing from the database %r until it can give a sign of "
                "life there: others will call it lost.",
                self._identity.id,
                alias,
                extra={"action": "silent", "worker": self._identity.id, "database": alias},
            )

    def _note_voice(self, alias: str) -> None:
        if alias in self._silent:
            self._silent.discard(alias)
            logger.info(
                "The worker %s claims from the database %r again.",
                self._identity.id,
                alias,
                extra={"action": "heard", "worker": self._identity.id, "database": alias},
            )

    def _say_failed(self, alias: str) -> None:
        discard(connections[alias])
        logger.exception(
            "The worker %s cannot give a sign of life in the database %r; trying again.",
            self._identity.id,
            alias,
            extra={"action": "heartbeat_failed", "worker": self._identity.id, "database": alias},
        )
