"""How soon Python's threads let one another run, in a process that is there for its checks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Python's own is 5 ms. The claimer and the settler need the interpreter for a moment after each
# answer of the database, and would wait that long for every check that computes.
SECONDS = 0.001


@contextmanager
def switching_soon() -> Iterator[None]:
    """For the command, whose process it is: the interval is one for all threads, and put back."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
