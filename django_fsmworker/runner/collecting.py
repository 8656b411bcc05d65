"""Python's collector of cyclic garbage, in a process that is there for its checks.

Rows come and go by the thousand, and every so often the collector looks at all there is: Django,
the project, each module. That takes tens of milliseconds in which no thread runs Python, and finds
next to nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sparing_what_lasts() -> Iterator[None]:
    """For the command, whose process it is: what was loaded by now is not looked at again.

    Afterwards it is again: see ``gc.freeze`` in Python's manual.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
