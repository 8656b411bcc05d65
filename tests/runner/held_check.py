"""A check that lasts until the test releases it."""

from __future__ import annotations

import threading
import time
from typing import Any


class HeldCheck:
    """Every row that runs it is noted, and waits."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.released = threading.Event()

    def __call__(self, row: Any) -> str:
        self.begun.append(row.pk)
        while not self.released.is_set():
            time.sleep(0.005)
        return "done"
