"""Deleting the rows that have outlived a state with ``delete_after``."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db import DatabaseError

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.announcer import Announcer
from django_fsmworker.runner.counters import EXPIRED, Counters
from django_fsmworker.runner.database.outages import MismatchTracker
from django_fsmworker.runner.execution.writing import expiries_of
from django_fsmworker.store import Store
from django_fsmworker.store.errors import is_refusal
from django_fsmworker.store.expiry import expire, with_overdue_rows

logger = logger_for(__name__)

LONGEST_REFUSAL = 3600.0
PAUSE = 0.05
MOST_REFUSED = 10_000


class Expirer:
    """Deletes expired rows, ``delete_batch`` at a time, with a pause after each batch.

    ``pause`` waits for so many seconds, and returns true if no more is to be deleted. ``tidy``
    leaves the connections as if no user code had had them. A row that would not be deleted is left
    alone for ``delete_interval``, and longer each time.
    """

    def __init__(
        self,
        stores: Mapping[Any, Store],
        settings: RunnerSettings,
        counters: Counters,
        worker: str,
        pause: Callable[[float], bool],
        mismatches: MismatchTracker,
        tidy: Callable[[], None],
    ) -> None:
        self._stores = stores
        self._settings = settings
        self._counters = counters
        self._worker = worker
        self._pause = pause
        self._mismatches = mismatches
        self._tidy = tidy
        self._announcer = Announcer()
        self._refused: dict[tuple[Any, Any], tuple[float, float]] = {}

    def close(self) -> None:
        """Close the connections of receivers; on the thread that deleted."""
        self._announcer.close()

    def delete_expired(self, alias: str) -> None:
        """Delete every row in the database ``alias`` that has outlived its state."""
        for model, state in self._overdue(alias):
            try:
                while self._delete_batch(self._stores[model], model, state):
                    if self._pause(PAUSE):
                        return
            except DatabaseError as error:
                if not self._explains([model], error):
                    raise

    def _overdue(self, alias: str) -> list[tuple[Any, Any]]:
        """The models and states with rows to delete; a table that cannot be asked is left out."""
        models = [
            model
            for model, store in self._stores.items()
            if store.alias == alias and not self._mismatches.rests(model)
        ]
        states = [(model, state) for model in models for state in model.state_graph.deletion_states]
        if not states:
            return []
        try:
            return with_overdue_rows(self._stores[states[0][0]], states)
        except DatabaseError as error:
            if not self._explains([model for model, _ in states], error):
                raise
        return self._overdue(alias)

    def _explains(self, models: Iterable[Any], error: DatabaseError) -> bool:
        """Whether the table of one of ``models`` is not as expected; each of those rests then."""
        if not is_refusal(error):
            return False
        found = [
            self._mismatches.explains(self._stores[model], model, error)
            for model in dict.fromkeys(models)
        ]
        return any(self._mismatches.rests(model) for model in models) and any(found)

    def _delete_batch(self, store: Store, model: Any, state: Any) -> bool:
        """Delete one batch of a state; whether there may be more."""
        limit, now = self._settings.delete_batch, time.monotonic()
        skip = {
            pk for (each, pk), (until, _) in self._refused.items() if each is model and until > now
        }
        run_apart = contextvars.Context().run
        expired = run_apart(expire, store, model, state, limit, skip, self._worker)
        self._tidy()  # receivers of the deletions have had the connection
        self._counters.add(model, EXPIRED, len(expired.deleted))
        for pk in expired.refused:
            self._back_off(model, pk)
        self._announcer.announce(expiries_of(model, expired.deleted, state.name, store.alias))
        return len(expired.deleted) + len(expired.refused) >= limit

    def _back_off(self, model: Any, pk: Any) -> None:
        """Leave a row alone that would not be deleted, longer each time."""
        if len(self._refused) >= MOST_REFUSED:
            self._refused.clear()
        _, wait = self._refused.get((model, pk), (0.0, self._settings.delete_interval))
        self._refused[model, pk] = time.monotonic() + wait, min(wait * 2, LONGEST_REFUSAL)
        logger.warning(
            "%s %s could not be deleted; its failure record says why.",
            model._meta.label,
            pk,
            extra={"action": "delete_refused", "model": model._meta.label, "pk": pk},
        )
