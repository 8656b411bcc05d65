"""Waiting for a runner that holds a row: how long, and how often to look."""

from __future__ import annotations

import time

from django.db import connections

# Seconds between two looks at a row that is held: the first, and the most.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25


class Patience:
    """The time that one call has, ``seconds`` from now, and its pauses, each longer than the last.

    In a transaction that locks the whole database there is none: no runner could settle meanwhile.
    """

    def __init__(self, using: str, seconds: float) -> None:
        self._pause = FIRST_PAUSE
        self._until = time.monotonic() + (seconds if _can_be_settled_meanwhile(using) else 0.0)

    def pause(self) -> float | None:
        """Seconds until the next look; None if there is no time left."""
        left = self._until - time.monotonic()
        if left <= 0:
            return None
        pause, self._pause = min(self._pause, left), min(2 * self._pause, LONGEST_PAUSE)
        return pause


def _can_be_settled_meanwhile(using: str) -> bool:
    connection = connections[using]
    return not connection.in_atomic_block or connection.features.has_select_for_update
