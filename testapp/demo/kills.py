"""Killing the runners while they hold rows, and what became of these rows."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from django_fsmworker.models import FailureRecord
from testapp.demo import checklog, places
from testapp.demo.checklog import Begun
from testapp.demo.counts import ENDED, Counts
from testapp.demo.runners import Runners
from testapp.models import File

# From here on kills are spread over the run; a small folder would be done before.
SPREAD_FROM = 500

# What a statement still on its way to a database server needs to get there.
GRACE = 0.05

# A row that processes ran so often when they died, as a suspect, is spared: once more, and it would
# be given up as the killer.
MOST_DEATHS = 2


@dataclass(frozen=True)
class Kill:
    """One SIGKILL: whom it hit, the rows that were in their hands, and whose check had begun."""

    pids: list[int]
    held: frozenset[Begun]
    begun: frozenset[Begun]

    def __str__(self) -> str:
        who = f"the runner {self.pids[0]}" if len(self.pids) == 1 else f"{len(self.pids)} runners"
        return (
            f"SIGKILL to {who}: {rows(len(self.held))} in hand, "
            f"the check of {len(self.begun):,} had begun"
        )


@dataclass
class Killer:
    """Strikes `times` times on the way, whenever the runners hold something."""

    runners: Runners
    times: int
    kills: list[Kill] = field(default_factory=list)

    @property
    def armed(self) -> bool:
        """Whether there is still somebody to kill."""
        return len(self.kills) < self.times

    def strike(self, counts: Counts) -> Kill | None:
        """Kill if the time has come, and start new runners; None otherwise."""
        if counts.ended < self._from(counts.total) or not _held():
            return None
        self.runners.pause()
        held = self._in_hand()
        if not held or _about_to_be_blamed(held):
            self.runners.go_on()
            return None
        pids = self.runners.kill()
        time.sleep(GRACE)
        held = self._in_hand()
        kill = Kill(pids, held, held & frozenset(checklog.read(places.check_log())))
        self.kills.append(kill)
        self.runners.start()
        return kill

    @property
    def in_hand(self) -> set[int]:
        """The rows that were in the hands of a killed runner."""
        return {pk for kill in self.kills for pk, _ in kill.held}

    def ran_again(self) -> int:
        """How many checks that had begun under a killed runner began once more later."""
        last = dict(checklog.read(places.check_log()))
        return sum(last[pk] != token for kill in self.kills for pk, token in kill.begun)

    def lost(self) -> int:
        """How many rows in the hands of killed runners have not come to their end."""
        ended = set(File.objects.filter(state__in=ENDED).values_list("pk", flat=True))
        return len(self.in_hand - ended)

    def _from(self, total: int) -> int:
        spread = total >= SPREAD_FROM
        return total * (len(self.kills) + 1) // (self.times + 1) if spread else 0

    def _in_hand(self) -> frozenset[Begun]:
        """What is held now, but not by a runner killed earlier, whose leases still last."""
        earlier: Iterable[frozenset[Begun]] = (kill.held for kill in self.kills)
        return _held() - frozenset().union(*earlier)


def rows(number: int) -> str:
    """``1 row``, ``2 rows``."""
    return f"{number:,} row{'' if number == 1 else 's'}"


def _held() -> frozenset[Begun]:
    held = File.objects.filter(state_claim__isnull=False).values_list("pk", "state_claim")
    return frozenset((pk, token) for pk, token in held if token is not None)


def _about_to_be_blamed(held: frozenset[Begun]) -> bool:
    records = FailureRecord.objects.filter(model=File._meta.label, deaths__gte=MOST_DEATHS)
    blamed = set(records.values_list("row", flat=True))
    return any(str(pk) in blamed for pk, _ in held)
