"""What came of it, in numbers that have to add up."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db.models import Sum

from django_fsmworker.models import FailureRecord
from testapp.demo import checklog, places
from testapp.demo.counts import ENDED, Counts
from testapp.demo.kills import Killer, rows
from testapp.demo.names import for_people
from testapp.models import File

REASONS = 5


@dataclass(frozen=True)
class Summary:
    """The end of a run: `found` rows, the last `counts`, who was killed."""

    found: int
    counts: Counts
    killer: Killer

    @property
    def adds_up(self) -> bool:
        """Whether every row is accounted for, and every archived row has its copy."""
        return self.counts.ended == self.found == File.objects.count() and not self.lost

    @property
    def lost(self) -> int:
        """Rows that did not come to their end after a kill, and archived ones without a copy."""
        return self.killer.lost() + self._without_copy()

    def lines(self) -> Iterator[str]:
        """The whole summary."""
        yield from self._sum()
        yield from self._speed()
        yield from self._kills()
        yield from self._reasons()

    def _sum(self) -> Iterator[str]:
        states = self.counts.states
        notes = {"archived": self._sizes(), "duplicate": "", "failed": ""}
        yield ""
        yield f"  {'found':<10}{self.found:>10,}"
        for name in ENDED:
            yield f"  {name:<10}{states[name]:>10,}   {notes[name]}".rstrip()
        parts = " + ".join(f"{states[name]:,}" for name in ENDED)
        yield ""
        yield f"{' + '.join(ENDED)} = {parts} = {self.counts.ended:,}; found {self.found:,}: " + (
            "it adds up." if self.adds_up else "IT DOES NOT ADD UP."
        )
        if missing := self._without_copy():
            yield f"{rows(missing)} of the archived ones have no copy."

    def _speed(self) -> Iterator[str]:
        checks = len(checklog.read(places.check_log()))
        elapsed = self.counts.elapsed
        yield (
            f"It took {elapsed:.1f} s: {self.counts.rate:,.0f} rows/s, {checks:,} checks, "
            f"{checks / elapsed:,.0f} checks/s."
        )

    def _kills(self) -> Iterator[str]:
        killer = self.killer
        if not killer.times:
            return
        kills = len(killer.kills)
        fewer = f" instead of {killer.times}, for want of more to interrupt" if killer.armed else ""
        yield (
            f"SIGKILLs: {kills}{fewer}, with {len(killer.in_hand):,} different rows in hand; "
            f"{killer.ran_again():,} checks that had begun ran again, {rows(killer.lost())} lost."
        )

    def _reasons(self) -> Iterator[str]:
        failed = File.objects.filter(state="failed").order_by("pk")
        number = failed.count()
        if not number:
            return
        yield f"Why {rows(number)} failed:"
        for row in failed[:REASONS]:
            record = FailureRecord.objects.filter(model=File._meta.label, row=str(row.pk)).first()
            why = f"{record.error.rpartition('.')[2]}: {record.message}" if record else "unknown"
            yield f"  {row}: {for_people(why)}"
        if number > REASONS:
            yield f"  ... and {number - REASONS:,} more, in the admin."

    def _sizes(self) -> str:
        packed = sum(copy.stat().st_size for copy in places.copies())
        size = File.objects.filter(state="archived").aggregate(sum=Sum("size"))["sum"] or 0
        if not size:
            return "each copy was read back and compared"
        return (
            f"each copy was read back and compared; {_bytes(size)} became {_bytes(packed)} "
            f"({packed / size:.0%})"
        )

    def _without_copy(self) -> int:
        archived = File.objects.filter(state="archived").values_list("pk", flat=True)
        return sum(not places.copy_of(pk).exists() for pk in archived)


def next_steps() -> Iterator[str]:
    """What to look at now."""
    manage = f"{_shown(Path(sys.executable))} {_shown(settings.BASE_DIR / 'manage.py')}"
    yield ""
    yield "Next:"
    yield f"  {manage} createsuperuser"
    yield f"  {manage} runserver   and look at http://127.0.0.1:8000/admin/testapp/file/"
    yield f"  {_shown(settings.BASE_DIR / 'testapp/models/files.py')}   the graph and its checks"
    yield f"  {_shown(settings.BASE_DIR / 'docs/index.md')}   the documentation"
    yield f"  {_shown(places.home())}   the copies and the runner's log"


def _shown(path: Path) -> str:
    """`path` as one would type it here."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def _bytes(number: int) -> str:
    if number < 1000:
        return f"{number} bytes"
    exponent = min(len(str(number)) - 1, 12) // 3
    return f"{number / 1000**exponent:,.1f} {'kMGT'[exponent - 1]}B"
