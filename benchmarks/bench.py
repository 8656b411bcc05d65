"""What a case is given to measure with: a server, sizes, peers, and a race that keeps record."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.contenders import Contender
from benchmarks.peers.roster import Peer
from benchmarks.processes import WorkerFailed
from benchmarks.race import Run, run
from benchmarks.results import Series

TINY = 200


@dataclass
class Bench:
    """``rows`` and ``runs`` are the command line's, if it names any; ``smoke`` is a quick try."""

    server: str
    rows: int | None = None
    runs: int | None = None
    peers: Sequence[Peer] = field(default_factory=list)
    smoke: bool = False
    # What a quick try has run already: many cases compare with the same.
    _tried: dict[str, Run] = field(default_factory=dict)

    def size(self, default: int, tiny: int = TINY) -> int:
        """How many pieces of work are measured."""
        return tiny if self.smoke else self.rows or default

    def around(self, default: int, tiny: int) -> int:
        """How many rows lie around them; the command line's rows are not these."""
        return tiny if self.smoke else default

    def some(self, numbers: Sequence[int]) -> Sequence[int]:
        """Of several numbers of processes a quick try takes the first two."""
        return numbers[:2] if self.smoke else numbers

    def times(self, default: int) -> int:
        """How often each contender runs."""
        return 1 if self.smoke else self.runs or default

    def seconds(self, default: float) -> float:
        return 1.0 if self.smoke else default

    def race(
        self,
        contenders: Sequence[Contender],
        numbers: Sequence[int],
        runs: int,
        unit: str = "rows/s",
        seconds: float = 120.0,
    ) -> list[Series]:
        """
        Runs in turn, so that all meet the same weather, and as many of each; one series for each.

        One that fails has that written in its series and does not run again.
        """
        series = [
            Series(each.name, each.settings, unit, each.peer, number=number)
            for each, number in zip(contenders, numbers, strict=True)
        ]
        racing = list(zip(contenders, series, strict=True))
        for _ in range(runs):
            for contender, each in list(racing):
                try:
                    note(each, self._run(contender, each.number, seconds))
                    say(f"  {each.name} ({each.settings}): {each.values[-1]:,.0f} {unit}")
                except WorkerFailed as error:
                    each.problems.append(str(error))
                    racing.remove((contender, each))
        return series

    def _run(self, contender: Contender, number: int, seconds: float) -> Run:
        if not self.smoke:
            return run(contender, number, seconds)
        which = f"{type(contender)} {vars(contender)} {number}"
        if which not in self._tried:
            self._tried[which] = run(contender, number, seconds)
        return self._tried[which]


def note(series: Series, done: Run) -> None:
    series.values.append(done.rate)
    series.problems += done.problems
    for cost, value in done.costs.items():
        series.extra.setdefault(cost, []).append(value)


def say(text: str) -> None:
    """Progress, beside what is asked for."""
    print(text, file=sys.stderr, flush=True)
