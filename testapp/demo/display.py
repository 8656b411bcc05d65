"""Showing progress: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from testapp.demo.counts import Counts


class Display(Protocol):
    """Where progress is shown. `every`: how often there is something new to see, in seconds."""

    every: float

    def say(self, line: str) -> None:
        """Print a line that stays."""

    def show(self, counts: Counts) -> None:
        """Show how far it is."""

    def close(self) -> None:
        """Leave the last state on the screen."""


class PlainDisplay:
    """A line a second, when something has changed."""

    every = 0.1

    def __init__(self) -> None:
        self._next = 0.0
        self._printed: Counts | None = None
        self._last: Counts | None = None

    def say(self, line: str) -> None:
        print(line, flush=True)

    def show(self, counts: Counts) -> None:
        self._last = counts
        if time.monotonic() >= self._next:
            self._print(counts)

    def close(self) -> None:
        if self._last is not None:
            self._print(self._last)

    def _print(self, counts: Counts) -> None:
        if self._printed is not None and self._printed.states == counts.states:
            return
        self._printed, self._next = counts, time.monotonic() + 1
        share = f"{counts.ended:,} of {counts.total:,} done"
        self.say(f"{counts.elapsed:6.1f} s  {share}, {counts.rate:,.0f}/s: {counts}")


class LiveDisplay:
    """A bar, the rate and a line for every state, redrawn in place."""

    every = 0.1

    def __init__(self) -> None:
        from testapp.demo.live import LiveView

        self._view = LiveView()

    def say(self, line: str) -> None:
        self._view.print(line)

    def show(self, counts: Counts) -> None:
        self._view.update(counts)

    def close(self) -> None:
        self._view.stop()


def for_output() -> Display:
    """The display that fits standard output."""
    return LiveDisplay() if sys.stdout.isatty() else PlainDisplay()
