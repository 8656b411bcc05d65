"""Every row this process holds a lease on: what the renewer renews and the claimer counts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from django_fsmworker.runner.work.attempt import WHOLE, Attempt


class Holdings:
    """A set of attempts, counted per model; shared by all parts of a runner.

    A place is what one call of a check takes: a row takes one, or its share of one where its check
    gets a batch.
    """

    def __init__(self, on_remove: Callable[[], None] = lambda: None) -> None:
        self._on_remove = on_remove
        self._attempts: set[Attempt] = set()
        self._latest: dict[tuple[Any, Any], Attempt] = {}
        self._aside: set[Attempt] = set()
        self._per_model: Counter[Any] = Counter()
        self._per_kind, self._rows = [0, 0], [0, 0]  # sync checks, async ones
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """How many rows take up room; those of abandoned threads do not."""
        return len(self._attempts) - len(self._aside)

    def held(self, is_async: bool) -> int:
        """How many places are taken by rows with one kind of check."""
        return _places(self._per_kind[is_async])

    def rows(self, is_async: bool) -> int:
        """How many rows those are."""
        return self._rows[is_async]

    def set_aside(self, attempt: Attempt) -> None:
        """Its thread was abandoned: it stays leased, but another row may have its room."""
        with self._changed:
            if attempt in self._attempts and attempt not in self._aside:
                self._aside.add(attempt)
                self._count([attempt], -1)
        self._on_remove()

    def count(self, model: Any) -> int:
        """How many places the rows of ``model`` take."""
        return _places(self._per_model[model])

    def add(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Rows that were just claimed; returns what still runs here on any of them.

        That a row could be claimed means that whatever runs on it has lost it.
        """
        displaced, added = [], list(attempts)
        with self._changed:
            for attempt in added:
                row = attempt.model, attempt.pk
                earlier = self._latest.get(row)
                if earlier is not None and not earlier.finished:
                    displaced.append(earlier)
                self._latest[row] = attempt
            self._attempts.update(added)
            self._count(added, 1)
        return displaced

    def remove(self, attempts: Iterable[Attempt]) -> None:
        """Rows that were settled, handed back or lost."""
        with self._changed:
            removed = self._attempts.intersection(attempts)
            self._attempts -= removed
            for attempt in removed:
                row = attempt.model, attempt.pk
                if self._latest.get(row) is attempt:
                    del self._latest[row]
            self._count(removed - self._aside, -1)
            self._aside -= removed
            self._changed.notify_all()
        self._on_remove()

    def all(self) -> list[Attempt]:
        """A copy to walk over."""
        with self._changed:
            return list(self._attempts)

    def wait_until_empty(self, timeout: float) -> bool:
        """Whether nothing is held any more, after at most ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._attempts, timeout)

    def _count(self, attempts: Iterable[Attempt], sign: int) -> None:
        alike = Counter([(each.model, each.is_async, each.share) for each in attempts])
        for (model, is_async, share), number in alike.items():
            self._per_model[model] += sign * number * share
            self._per_kind[is_async] += sign * number * share
            self._rows[is_async] += sign * number


def _places(shares: int) -> int:
    return -(-shares // WHOLE)
