"""One run of one contender, from its first handler to its last write."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import costs, proof
from benchmarks.contenders import Contender
from benchmarks.machine import Weather
from benchmarks.runlog import RunLog

START_SECONDS = 60.0


@dataclass(frozen=True)
class Run:
    """How fast the work was done, what it cost a piece, and what was wrong with it."""

    rate: float
    problems: list[str] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)


def run(contender: Contender, number: int, seconds: float) -> Run:
    """
    Let a contender do `number` prepared pieces of work, in `seconds` at the most.

    The clock runs from the start of the first handler until all have run and the store holds none
    as unfinished: starting the process is nobody's cost.
    """
    keys = contender.prepare(number)
    before = contender.counters()
    with tempfile.TemporaryDirectory(prefix="fsmworker-benchmark-") as name, contender.meanwhile():
        log = RunLog(Path(name))
        worker = contender.start(Path(name))
        try:
            worker.wait_for(log.count, START_SECONDS)
            computed, weather = worker.processor_seconds(), Weather()
            end = worker.wait_for(
                lambda: log.count() >= len(keys) and not contender.left(), seconds
            )
            computed, idle = worker.processor_seconds() - computed, weather.idle()
        finally:
            worker.stop()
        entries = log.entries()
    handled = {key for key, _ in entries}
    began = min((moment for _, moment in entries), default=0.0)
    last = max((moment for _, moment in entries), default=1.0)
    elapsed = (end or last) - began
    each = costs.each(contender.counters(), before, len(entries))
    each |= {"processor_us": 1e6 * computed / max(1, len(entries)), "idle_percent": idle}
    late = [] if end else [f"not finished within {seconds:g} s"]
    wrong = proof.problems(keys, [key for key, _ in entries], contender.left())
    return Run(len(handled) / elapsed if elapsed else 0.0, late + wrong, each)
