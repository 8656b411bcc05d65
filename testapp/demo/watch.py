"""Watching the runners work."""

from __future__ import annotations

import time

from testapp.demo.counts import Counts, count, nothing_moves
from testapp.demo.display import Display
from testapp.demo.kills import Killer
from testapp.demo.runners import RunnerEnded, Runners

# How often to look for rows in the hands of runners that are to be killed.
LURKING = 0.01

# How long nothing may change until it is asked whether anything still can.
STANDSTILL = 5.0


def watch(runners: Runners, killer: Killer, total: int, display: Display) -> Counts:
    """Run the runners until every row has come to its end, or none moves any more."""
    start = time.monotonic()
    runners.start()
    try:
        return _watch(runners, killer, total, display, start)
    finally:
        runners.stop()
        display.close()


def _watch(runners: Runners, killer: Killer, total: int, display: Display, start: float) -> Counts:
    counts = count(total, 0.0)
    changed = looked = start
    while not counts.complete:
        now = time.monotonic()
        if now - looked >= display.every:
            before, counts, looked = counts, count(total, now - start), now
            changed = now if before.states != counts.states else changed
            display.show(counts)
            runners.check()
            if now - changed > STANDSTILL and nothing_moves():
                raise RunnerEnded("Some rows do not move any more; the admin shows which.")
        if killer.armed and (kill := killer.strike(counts)):
            display.say(f"{now - start:6.1f} s  {kill}; started anew")
        time.sleep(LURKING if killer.armed else display.every)
    return counts
