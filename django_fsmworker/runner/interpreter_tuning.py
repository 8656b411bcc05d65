"""Python's collector of cyclic garbage, in a process that is there for its checks.

Rows come and go by the thousand, and next to none of what they leave behind is a cycle. Yet with
Python's own settings the collector looks at the newest objects for every hundred rows, which was
measured at a tenth of a runner's time, and now and then at all there is: Django, the project, each
module. That takes tens of milliseconds in which no thread runs Python.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# How many objects that can be part of a cycle may come before the newest are looked at. A row makes
# about seven of them while it is held; a claim of a thousand rows is one look, then.
NEWEST = 10_000


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Freeze loaded objects and raise the collector's threshold; both are restored on exit.

    For a process of its own: see ``gc.freeze`` and ``gc.set_threshold`` in Python's manual. A
    project that has set the threshold higher, or to 0, which is never, keeps its own.
    """
    newest, *older = before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(newest and max(newest, NEWEST), *older)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


# Python's own is 5 ms. The claimer and the settler need the interpreter for a moment after each
# answer of the database, and would wait that long for every check that computes.
SECONDS = 0.001


@contextmanager
def switching_soon() -> Iterator[None]:
    """Shorten the interval, which is one for the whole process; it is restored on exit."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
