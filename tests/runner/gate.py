"""A check that the test holds back."""

from __future__ import annotations

import threading
import time
from typing import Any


class Gate:
    """Checks wait at it until it is opened."""

    def __init__(self) -> None:
        self.entered: list[Any] = []
        self.open = threading.Event()

    def __call__(self, row: Any) -> str:
        self.entered.append(row.pk)
        while not self.open.is_set():
            time.sleep(0.005)
        return "done"
