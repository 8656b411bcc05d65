"""What a runner has done, counted per model."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

MOVED, STAYED, FAILED, TIMED_OUT = "moved", "stayed", "failed", "timed_out"
INTERRUPTED, SUPERSEDED, EXPIRED = "interrupted", "superseded", "expired"
NAMES = (MOVED, STAYED, FAILED, TIMED_OUT, INTERRUPTED, SUPERSEDED, EXPIRED)


class Counters:
    """Totals since the start, and since the last summary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total: Counter[tuple[Any, str]] = Counter()
        self._reported: Counter[tuple[Any, str]] = Counter()

    def add(self, model: Any, name: str, number: int = 1) -> None:
        """Count ``number`` more."""
        if number:
            with self._lock:
                self._total[model, name] += number

    def total(self, name: str, model: Any = None) -> int:
        """How often ``name`` was counted, for one model or for all."""
        with self._lock:
            return sum(
                number
                for (each, counted), number in self._total.items()
                if counted == name and model in (None, each)
            )

    def since_last_summary(self, model: Any) -> dict[str, int]:
        """What came for ``model`` since this was last asked."""
        with self._lock:
            keys = [key for key in self._total if key[0] is model]
            news = {key: self._total[key] - self._reported[key] for key in keys}
            self._reported.update(news)
        return {name: number for (_, name), number in news.items() if number}

    def not_told(self, model: Any, numbers: dict[str, int]) -> None:
        """They could not be written down: they are news still."""
        with self._lock:
            for name, number in numbers.items():
                self._reported[model, name] -= number

    def __str__(self) -> str:
        return " ".join(f"{name}={self.total(name)}" for name in NAMES)
