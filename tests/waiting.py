"""Waiting for a condition: polled, with a bound, never a fixed sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Seldomer the longer it takes: a condition that asks the database is in the way of what it awaits.
SHORTEST, LONGEST, GROWTH = 0.01, 0.05, 1.1

# Much for a slow machine, and less than the lease by default: what only a lapse brings is too late.
PATIENCE = 25.0


def eventually(
    condition: Callable[[], T], seconds: float = PATIENCE, *, every: float | None = None
) -> T:
    """
    Call `condition` until it returns something true, and return that. Fail after `seconds`, with
    what it returned last; an ``AssertionError`` it raises counts as "not yet".
    """
    deadline = time.monotonic() + seconds
    pause = every or SHORTEST
    while True:
        failure: AssertionError | None = None
        try:
            if result := condition():
                return result
        except AssertionError as error:
            failure = error
        if time.monotonic() >= deadline:
            last = f"it said: {failure}" if failure else f"it returned {result!r}"
            raise AssertionError(f"Not true within {seconds:g} s; {last}") from failure
        time.sleep(pause)
        pause = every or min(pause * GROWTH, LONGEST)
