"""Runners killed while they hold rows, and what the log of the checks proves afterwards."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby

from django.db.models import CharField, Exists, OuterRef
from django.db.models.functions import Cast

from django_fsmworker import clock
from tests.app.models import Chain, CheckLog, Letter, Parcel
from tests.runner.processes import Process
from tests.waiting import eventually

PATH = ["first", "second", "third", "last"]


def later() -> datetime:
    """When rows are due that are kept until they are released."""
    return clock.now() + timedelta(days=1)


def release(model: type[Chain | Letter | Parcel], number: int | None = None) -> int:
    """Make so many of the rows due that are kept for later, all of them if no number is given."""
    kept = model.objects.filter(state_next__gt=clock.now() + timedelta(hours=1))
    keys = list(kept.order_by("pk").values_list("pk", flat=True)[:number])
    return model.objects.filter(pk__in=keys).update(state_next=clock.now())


def running_in(process: Process, model: type[Chain | Letter] = Chain) -> int:
    """How many rows the process has claimed, begun to check and not settled, by the database.

    The log says that this process began the check of the row in the very state it is in, and the
    row still has a claim whose lease is in the future.
    """
    begun = CheckLog.objects.filter(
        worker=str(process.pid), row=Cast(OuterRef("pk"), CharField()), state=OuterRef("state")
    )
    return model.objects.running().filter(Exists(begun)).count()


@dataclass
class Fleet:
    """So many runners; one that is killed is replaced at once.

    Killed is who holds ``least`` rows: with two or more, no row is killed again and again that runs
    alone since its process died, until it is given up as it should be. Of a ``portion`` of due rows
    a fleet always finds some to hold: more than all its runners take in hand.
    """

    start: Callable[[], Process]
    size: int
    model: type[Chain | Letter] = Chain
    least: int = 1
    portion: int = 100
    processes: list[Process] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    kills: Counter[int] = field(default_factory=Counter)
    held: list[int] = field(default_factory=list)

    def fill(self) -> None:
        self.processes = [self.start() for _ in range(self.size)]

    def kill_each(self, times: int) -> None:
        """Kill one after the other, so many times each, while it holds rows."""
        for _ in range(times):
            for number in range(self.size):
                eventually(partial(self._kill_with_work_to_do, number), 60, every=0.02)

    def _kill_with_work_to_do(self, number: int) -> bool:
        """A quick machine must not be done before the last kill."""
        if not self.processes[number].started:
            return False
        if self.model.objects.due().count() < self.portion:
            release(self.model, self.portion)
        return self.kill_while_it_holds_rows(number)

    def kill_while_it_holds_rows(self, number: int) -> bool:
        """Freeze the runner, look at what it holds, and kill it if that is enough.

        What it held is counted when it is dead: a frozen process may still have a write on its
        way. Returns whether it did hold something then; only such a kill counts.
        """
        process = self.processes[number]
        process.send(signal.SIGSTOP)
        try:
            holds = running_in(process, self.model) >= self.least
        finally:
            process.send(signal.SIGKILL if holds else signal.SIGCONT)
        if not holds:
            return False
        process.wait()
        held = running_in(process, self.model)
        self.killed.append(process.pid)
        process.end()
        self.processes[number] = self.start()
        if held:
            self.kills[number] += 1
            self.held.append(held)
        return bool(held)


@dataclass
class Ledger:
    """What the checks wrote down themselves, row by row and in the order of their beginning."""

    runs: dict[str, list[CheckLog]] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Ledger:
        entries = CheckLog.objects.order_by("row", "at", "pk")
        return cls({row: list(log) for row, log in groupby(entries, key=lambda each: each.row)})

    @property
    def total(self) -> int:
        return sum(map(len, self.runs.values()))

    def again(self) -> int:
        """Checks that were run more than once for a row and state."""
        return self.total - sum(len({log.state for log in logs}) for logs in self.runs.values())

    def again_after_a_kill(self, killed: list[int]) -> int:
        """Those of them whose earlier run was in a process that was killed."""
        dead = {str(pid) for pid in killed}
        return sum(
            earlier.worker in dead
            for logs in self.runs.values()
            for earlier, later in zip(logs, logs[1:], strict=False)
            if earlier.state == later.state
        )

    def unchecked(self) -> list[str]:
        """Rows that were moved on from a state without any check in it."""
        return [
            row for row, logs in self.runs.items() if {log.state for log in logs} != set(PATH[:-1])
        ]

    def incomplete(self, path: list[str] = PATH) -> list[str]:
        """Rows that were not checked in each of their states, in the order of the graph."""
        order = path[:-1]
        return [
            row
            for row, logs in self.runs.items()
            if [state for state, _ in groupby(log.state for log in logs)] != order
        ]
