"""The counters of a runner: what became of rows, per model."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from django_fsmworker.store import Ending

# What is counted beside the endings of attempts.
INTERRUPTED, SUPERSEDED, EXPIRED = "interrupted", "superseded", "expired"
NAMES = (*Ending, INTERRUPTED, SUPERSEDED, EXPIRED)


class Counters:
    """Totals since the runner was made, and since the last summary; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total: Counter[tuple[Any, str]] = Counter()
        self._reported: Counter[tuple[Any, str]] = Counter()

    def add(self, model: Any, name: str, number: int = 1) -> None:
        """Count ``number`` more rows of ``model`` under ``name``."""
        if number:
            with self._lock:
                self._total[model, name] += number

    def total(self, name: str, model: Any = None) -> int:
        """The number of rows counted under ``name``, of one model or of all."""
        with self._lock:
            return sum(
                number
                for (each, counted), number in self._total.items()
                if counted == name and model in (None, each)
            )

    def since_last_summary(self, model: Any) -> dict[str, int]:
        """The numbers counted for ``model`` since the last call, those of 0 left out."""
        with self._lock:
            keys = [key for key in self._total if key[0] is model]
            news = {key: self._total[key] - self._reported[key] for key in keys}
            self._reported.update(news)
        return {name: number for (_, name), number in news.items() if number}

    def has_news(self) -> bool:
        """Whether anything was counted that is in no summary."""
        with self._lock:
            return any(number != self._reported[key] for key, number in self._total.items())

    def not_saved(self, model: Any, numbers: dict[str, int]) -> None:
        """Undo ``since_last_summary``: the summary was not saved."""
        with self._lock:
            for name, number in numbers.items():
                self._reported[model, name] -= number

    def __str__(self) -> str:
        return " ".join(f"{name}={self.total(name)}" for name in NAMES)
