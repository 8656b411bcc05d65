"""How long a runner waits for an answer of its database.

A connection may be dead without anybody saying so: a network that swallows what is sent, a proxy
that has lost the server. Who waits on it would wait for minutes, and the rows with it.
"""

from __future__ import annotations

import threading

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.database.outages import Outages

SHORTEST, LONGEST = 3.0, 10.0
LOOKS = 4


def patience_of(settings: RunnerSettings) -> tuple[float, float]:
    """Seconds that a question may take, at first, and once the database was just slow.

    The first is short enough for another try before leases lapse and checks overrun; the last, for
    the main loop not to be taken for stalled.
    """
    first = max(SHORTEST, min(LONGEST, settings.lease / 3, settings.deadline / 2))
    return first, max(first, settings.watchdog_interval / 2)


class Patience(threading.Thread):
    """Looks several times in that time at what is being asked."""

    def __init__(self, outages: Outages) -> None:
        super().__init__(name="fsmworker-patience", daemon=True)
        self._outages = outages
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._outages.patience[0] / LOOKS):
            self._outages.look()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
