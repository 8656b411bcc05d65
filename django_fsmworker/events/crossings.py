"""Actions that write to each other's rows: two transactions of many rows then wait for each other.

Delivered together, the events of such rows meet in a deadlock nearly each time. One by one they
seldom do: a transaction holds the event's own row, and what its action writes, for a moment.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from django_fsmworker.logs import logger_for

logger = logger_for(__name__)

# Seconds after a deadlock for which the events of the model are delivered one by one.
APART = 60.0

_until: dict[tuple[str, Any], float] = {}
_lock = threading.Lock()


class Deadlock(Exception):
    """The database has ended what an action did, as that of another transaction waited for it.

    All of the transaction is rolled back. Nobody is to blame, and it costs no attempt.
    """


def crossed(alias: str, model: Any) -> None:
    """Note that a delivery to rows of ``model`` was ended by the database as a deadlock."""
    with _lock:
        news = not has_crossed(alias, model)
        _until[alias, model] = time.monotonic() + APART
    if news:
        logger.warning(
            "Actions of %s wait for each other's rows (a deadlock): its events are delivered one "
            "by one until there was none for %.0f s; let an action send the other row an event.",
            model._meta.label,
            APART,
            extra={"action": "crossed", "model": model._meta.label, "database": alias},
        )


def has_crossed(alias: str, model: Any) -> bool:
    """Whether that was noted in this process lately."""
    return _until.get((alias, model), float("-inf")) > time.monotonic()
