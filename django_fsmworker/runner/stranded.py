"""Stranded rows: in a state with a check, with nothing due and no failure to explain it.

Their state was manual in an older graph, or plain SQL wrote NULL. While two builds run side by
side, the older one strands rows that the newer one would run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from django_fsmworker.logs import logger_for
from django_fsmworker.runner.main_loop import jittered
from django_fsmworker.store import Store

logger = logger_for(__name__)

BATCH = 1000
INTERVAL = 60.0
# A look that is not answered from the index, since a migration is not applied yet, is made seldom.
REST = 1000

# What a build that is on its way out thinks stranded may be at rest for the one that follows: only
# rows that have been so for longer than it takes to replace all processes are touched by the way.
OLDER = 300.0


def rescue_stranded(stores: Mapping[Any, Store], older: float = 0.0) -> list[Any]:
    """Make stranded rows due, and say how many; returns their models.

    Those that entered their state ``older`` seconds ago, or before.
    """
    rescued = []
    for store in dict.fromkeys(stores.values()):
        here = [model for model, own in stores.items() if own is store]
        for model in store.with_stranded_rows(here, older):
            if number := _rescue(store, model, older):
                rescued.append(model)
                logger.warning(
                    "%d rows of %s were in an automatic state with nothing due; they are due now.",
                    number,
                    model._meta.label,
                    extra={"action": "stranded", "model": model._meta.label},
                )
    return rescued


def _rescue(store: Store, model: Any, older: float) -> int:
    number = 0
    while batch := store.rescue_stranded(model, BATCH, older):
        number += batch
    return number


class StrandedRows:
    """Looks for stranded rows about once a minute; ``on_rescued`` is told of their models.

    Times are ``time.monotonic()`` seconds.
    """

    def __init__(self, stores: Mapping[Any, Store], on_rescued: Callable[[Any], None]) -> None:
        self._stores = stores
        self._on_rescued = on_rescued
        aliases = {store.alias for store in stores.values()}
        self._next = dict.fromkeys(aliases, time.monotonic() + jittered(INTERVAL))

    @property
    def due_at(self) -> float:
        """When to look next."""
        return min(self._next.values())

    def look(self, alias: str, skip: Callable[[Any], bool]) -> None:
        """Rescue those in the database ``alias`` if it is time, but for models to ``skip``."""
        began = time.monotonic()
        if began < self._next[alias]:
            return
        self._next[alias] = began + jittered(INTERVAL)
        stores = {
            model: store
            for model, store in self._stores.items()
            if store.alias == alias and not skip(model)
        }
        for model in rescue_stranded(stores, OLDER):
            self._on_rescued(model)
        took = time.monotonic() - began
        self._next[alias] = max(self._next[alias], began + REST * took)
