"""The registry of workers: what each runner says of itself, and what it has been told to do.

A runner keeps a record in each database that it serves, so that one statement carries its sign of
life there and brings back its orders. Nobody else writes what it says; it writes no orders.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import models, router
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from django_fsmworker import clock
from django_fsmworker.exceptions import WorkerUnavailable
from django_fsmworker.models.functions import DatabaseLater, DatabaseNow
from django_fsmworker.models.hints import hint_orders

LOST = "lost"
LOOK_FOR_STACKS = 0.1


class WorkerStatus(models.TextChoices):
    """What a worker says of itself. It never says *lost*, which follows from its silence.

    Ready and suspended follow one another as it is told; stopping and then stopped are the end.
    """

    READY = "ready", _("ready")
    SUSPENDED = "suspended", _("suspended")
    STOPPING = "stopping", _("stopping")
    STOPPED = "stopped", _("stopped")


ORDERS = [(each.value, each.label) for each in WorkerStatus if each != WorkerStatus.STOPPING]


@dataclass(frozen=True, slots=True)
class RunningRows:
    """The rows of one call of a check, and since when it runs, by the database's clock."""

    model: str
    state: str
    keys: tuple[str, ...]
    since: datetime


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Workers in one database. Orders return the number of workers that were told anything new."""

    def with_now(self) -> WorkerQuerySet:
        """These workers, each with the database's time, by which it is lost or not."""
        return self.annotate(database_now=DatabaseNow())

    def living(self) -> WorkerQuerySet:
        """Workers that have not stopped and have given a sign of life within their own timeout."""
        return self.exclude(status=WorkerStatus.STOPPED).filter(expires__gt=DatabaseNow())

    def lost(self) -> WorkerQuerySet:
        """Workers that have fallen silent without having stopped."""
        return self.exclude(status=WorkerStatus.STOPPED).filter(expires__lte=DatabaseNow())

    def stopped(self) -> WorkerQuerySet:
        """Workers that have stopped in order."""
        return self.filter(status=WorkerStatus.STOPPED)

    def suspend(self, *, by: str = "", reason: str = "") -> int:
        """Tell living workers to claim nothing more; what they run goes on to its end."""
        return self._order(WorkerStatus.SUSPENDED, [WorkerStatus.READY], by, reason)

    def resume(self, *, by: str = "", reason: str = "") -> int:
        """Tell suspended workers to go on."""
        return self._order(WorkerStatus.READY, [WorkerStatus.SUSPENDED], by, reason)

    def stop(self, *, by: str = "", reason: str = "") -> int:
        """Tell living workers to drain and to end; there is no way back."""
        before = [WorkerStatus.READY, WorkerStatus.SUSPENDED]
        return self._order(WorkerStatus.STOPPED, before, by, reason)

    def ask_for_stacks(self) -> int:
        """Ask living workers to write down the stacks of their threads."""
        return self._tell(self.living(), stacks_wanted=F("stacks_wanted") + 1)

    def purge(self, older_than: timedelta) -> int:
        """Delete records of stopped and lost workers that fell silent longer ago than that."""
        before = DatabaseLater(-older_than.total_seconds())
        over = models.Q(status=WorkerStatus.STOPPED) | models.Q(expires__lte=DatabaseNow())
        silent = self._written().filter(over, heartbeat__lt=before)
        return sum(silent.filter(pk=pk).delete()[0] for pk in _in_order(silent))

    def _order(
        self, wanted: WorkerStatus, before: Sequence[WorkerStatus], by: str, reason: str
    ) -> int:
        return self._tell(
            self.living().filter(wanted__in=before),
            wanted=wanted,
            ordered=DatabaseNow(),
            ordered_by=by[:200],
            order_reason=reason,
        )

    def _tell(self, workers: WorkerQuerySet, **columns: Any) -> int:
        """Write an order to each, in the order of their keys; orders cross without deadlocks."""
        workers = workers._written()
        told = sum(workers.filter(pk=pk).update(**columns) for pk in _in_order(workers))
        if told:
            hint_orders(workers.db)
        return told

    def _written(self) -> WorkerQuerySet:
        """These workers in the database of their orders, whatever a router has reads done on."""
        chosen: str | None = getattr(self, "_db", None)
        return self.using(chosen or router.db_for_write(self.model))


class Worker(models.Model):
    """One runner, by what it says of itself; a process that starts again has a new record.

    The numbers are those of the last ``heartbeat``, and its time the database's.
    """

    id = models.CharField(_("id"), primary_key=True, max_length=200)
    incarnation = models.BigIntegerField(
        _("incarnation"), editable=False, help_text=_("The number of the process with this id.")
    )
    name = models.CharField(_("name"), max_length=100)
    host = models.CharField(_("host"), max_length=255)
    pid = models.BigIntegerField(_("process id"))
    health_address = models.CharField(_("health address"), max_length=300, blank=True)
    served = models.JSONField(
        _("served"), default=dict, help_text=_("The models served, each with its graph's digest.")
    )
    versions = models.JSONField(_("versions"), default=dict)
    options = models.JSONField(_("options"), default=dict)
    status = models.CharField(_("status"), max_length=10, choices=WorkerStatus.choices)
    started = models.DateTimeField(_("started"))
    heartbeat = models.DateTimeField(_("heartbeat"))
    expires = models.DateTimeField(
        _("expires"), help_text=_("When it is lost, unless it gives a sign of life before.")
    )
    in_flight = models.PositiveIntegerField(_("in flight"), default=0)
    running = models.JSONField(_("running"), default=list)
    totals = models.JSONField(_("totals"), default=dict)
    pace = models.JSONField(
        _("pace"), default=list, help_text=_("Of states with attempts in the last five minutes.")
    )
    wanted = models.CharField(_("wanted"), max_length=10, choices=ORDERS)
    ordered = models.DateTimeField(_("ordered"), null=True, blank=True)
    ordered_by = models.CharField(_("ordered by"), max_length=200, blank=True)
    order_reason = models.TextField(_("reason of the order"), blank=True)
    stacks_wanted = models.PositiveIntegerField(_("stacks wanted"), default=0)
    stacks_given = models.PositiveIntegerField(_("stacks given"), default=0)
    stacks = models.TextField(_("stacks"), blank=True)

    objects = WorkerQuerySet.as_manager()

    # Where it has records, as far as known; otherwise where it was read.
    databases: tuple[str, ...] = ()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return self.id

    @property
    def state(self) -> str:
        """The status, or ``lost`` for a worker that has fallen silent without having stopped."""
        if self.status != WorkerStatus.STOPPED and self.expires <= self._now:
            return LOST
        return self.status

    @property
    def age(self) -> timedelta:
        """Time since its last sign of life."""
        return self._now - self.heartbeat

    @property
    def is_lost(self) -> bool:
        """Whether it has fallen silent without having stopped."""
        return self.state == LOST

    @property
    def is_living(self) -> bool:
        """Whether it runs, as far as its last sign of life tells; suspended or not."""
        return self.state not in (LOST, WorkerStatus.STOPPED)

    @property
    def longest_running(self) -> list[RunningRows]:
        """The calls of checks that ran longest at the last sign of life, the longest first."""
        return [
            RunningRows(
                each["model"],
                each["state"],
                tuple(each["keys"]),
                self.heartbeat - timedelta(seconds=each["seconds"]),
            )
            for each in self.running
        ]

    def suspend(self, *, by: str = "", reason: str = "") -> None:
        """Let it claim nothing more; what it runs goes on. ``WorkerUnavailable`` if it is gone."""
        told = [each.suspend(by=by, reason=reason) for each in self._records()]
        self._refuse_unless(told, WorkerStatus.SUSPENDED)

    def resume(self, *, by: str = "", reason: str = "") -> None:
        """Let it go on. ``WorkerUnavailable`` if it is gone or stopping."""
        told = [each.resume(by=by, reason=reason) for each in self._records()]
        self._refuse_unless(told, WorkerStatus.READY)

    def stop(self, *, by: str = "", reason: str = "") -> None:
        """Let it drain and end. ``WorkerUnavailable`` if it is gone already."""
        told = [each.stop(by=by, reason=reason) for each in self._records()]
        self._refuse_unless(told, WorkerStatus.STOPPED)

    def show_stacks(self, timeout: float = 15.0) -> str:
        """The stacks of its threads, as it writes them down within ``timeout`` seconds.

        ``WorkerUnavailable`` if it does not: then it is gone, or some code holds the interpreter.
        """
        records = self._records()[0]
        if not records.ask_for_stacks():
            raise WorkerUnavailable(self._unavailable())
        wanted = records.values_list("stacks_wanted", flat=True).get()
        end = time.monotonic() + timeout
        while True:
            found = records.filter(stacks_given__gte=wanted).values_list("stacks", flat=True)
            for stacks in found:
                return stacks
            if time.monotonic() > end:
                raise WorkerUnavailable(
                    f"The worker {self.id} has not shown its stacks within {timeout:g} s; if it "
                    f"is living, look at its process with a tool such as py-spy."
                )
            time.sleep(LOOK_FOR_STACKS)

    @property
    def _now(self) -> datetime:
        now: datetime = getattr(self, "database_now", None) or clock.now()
        return now

    def _records(self) -> list[WorkerQuerySet]:
        """Its records, in every database in which it is known to have one."""
        using = self.databases or (self._state.db,)
        return [Worker.objects.using(alias).filter(pk=self.pk) for alias in using]

    def _refuse_unless(self, told: list[int], wanted: WorkerStatus) -> None:
        if not any(told):
            records = self._records()[0]
            if not records.living().filter(wanted=wanted).exists():
                raise WorkerUnavailable(self._unavailable())

    def _unavailable(self) -> str:
        now = self._records()[0].with_now().first()
        state = "no more on record" if now is None else now.state
        if now is not None and now.is_living and now.wanted == WorkerStatus.STOPPED:
            state = WorkerStatus.STOPPING
        return (
            f"The worker {self.id} is {state} and takes no such order; "
            f"workers.living() has those that do."
        )


def _in_order(workers: WorkerQuerySet) -> list[str]:
    return sorted(workers.values_list("pk", flat=True))
