"""The pauses that this process knows of, and which rows they stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from django_fsmworker.models.event import record_labels
from django_fsmworker.models.indexes import limit_attribute
from django_fsmworker.models.limits import Pause, key_digest
from django_fsmworker.runner.in_flight.attempts import Attempt, Work, attempts_of
from django_fsmworker.store import Outcome, Store
from django_fsmworker.store.pauses import Paused

# A claim is never based on older knowledge, in seconds, unless the database is away, or hints tell
# of pauses: then it is asked right after the claim.
ASK_EVERY = 1.5
AFTER_HINT = 0.3


class PauseBook:
    """Pauses, as the databases had them when they were last asked. Any thread may look into it."""

    def __init__(self, stores: Mapping[Any, Store], patience: float) -> None:
        self._stores = stores
        self._patience = max(patience, ASK_EVERY)
        self._labels = {model: record_labels(model) for model in stores}
        self._found: dict[str, list[Paused]] = {}
        self._found_at: dict[str, float] = {}
        aliases = {store.alias for store in stores.values()}
        self._asked = dict.fromkeys(aliases, float("-inf"))
        self._ends = dict.fromkeys(aliases, float("inf"))
        self._doubted: set[str] = set()
        self._lock = threading.Lock()
        self.lanes: dict[tuple[Any, str], set[str]] = {}
        """The digests of the paused keys, by model and state; "" for the whole state."""
        self.version = 0
        """Goes up with every answer of a database."""
        self.trials: dict[tuple[Any, str], int] = {}
        """The pauses of breakers that wait for a trial, by model and state."""

    def __bool__(self) -> bool:
        return bool(self.lanes)

    def ask_at(self, store: Store, *, all_paused: bool) -> float:
        """The moment from which on the database has to be asked before the next claim.

        Less often while all that is due is paused.
        """
        alias = store.alias
        if alias in self._doubted:
            return self._asked[alias] + AFTER_HINT
        patience = self._patience if all_paused else ASK_EVERY
        return min(self._asked[alias] + patience, self._ends[alias])

    def may_be_asked_later(self, store: Store) -> bool:
        """Whether nothing is known to be paused, nor hinted at, since the database was asked."""
        alias = store.alias
        known = alias not in self._doubted and self._asked[alias] > float("-inf")
        return known and not (self.lanes or self.trials)

    def doubt(self) -> None:
        """Ask soon: somebody says that something has changed."""
        self._doubted.update(self._asked)

    def changed(self, store: Store) -> None:
        """Ask before anything else: this process has changed something."""
        self._asked[store.alias] = float("-inf")

    def ask(self, store: Store) -> None:
        """Ask a database which pauses of its models are in force."""
        alias, asked = store.alias, time.monotonic()
        self._doubted.discard(alias)
        here = [model for model, own in self._stores.items() if own is store]
        try:
            found = store.pauses({label for model in here for label in self._labels[model]})
        except BaseException:
            self._doubted.add(alias)  # whichever thread asks next
            raise
        ends = [each.left for each in found if each.left is not None and each.left > 0]
        with self._lock:
            self._found[alias], self._found_at[alias] = found, asked
            self._asked[alias] = asked
            self._ends[alias] = asked + min(ends, default=float("inf"))
            self._work_out()

    def in_force(self) -> list[tuple[Any, str, Paused]]:
        """By model and state, what was found when the databases were last asked, and is not over.

        Those of breakers stay until they are lifted.
        """
        now, found = time.monotonic(), []
        with self._lock:
            for alias, pauses in self._found.items():
                for each in pauses:
                    over = each.left is not None and self._found_at[alias] + each.left <= now
                    if each.kind == Pause.Kind.BREAKER or not over:
                        found += [(*lane, each) for lane in self._lanes_of(alias, each)]
        return found

    def note(self, model: Any, outcomes: Iterable[Outcome]) -> None:
        """Stop at once what checks here have asked to be paused; called when that is written."""
        asked = [each for each in outcomes if each.pause is not None]
        if not asked:
            return
        with self._lock:
            for outcome in asked:
                request: Any = outcome.pause
                digest = key_digest(request.key)
                self.lanes.setdefault((model, outcome.source), set()).add(digest)
            self.version += 1
        self.doubt()

    def stops_now(self, store: Store, model: Any, state: str) -> bool:
        """Whether the whole state is paused; the database is asked if what is known is old."""
        if time.monotonic() >= self.ask_at(store, all_paused=False):
            self.ask(store)
        return self.stops(model, state)

    def stops(self, model: Any, state: str) -> bool:
        """Whether the whole state is paused."""
        found = self.lanes.get((model, state))
        return found is not None and "" in found

    def keys(self, model: Any, state: str) -> set[str]:
        """The digests of the keys of this state that are paused."""
        return self.lanes.get((model, state), set())

    def stops_work(self, work: Work) -> bool:
        """Whether a call that has not begun is not to begin."""
        if not self.lanes:
            return False
        return any(self._stops_attempt(each) for each in attempts_of(work))

    def _stops_attempt(self, attempt: Attempt) -> bool:
        found = self.lanes.get((attempt.model, attempt.state.name))
        if not found:
            return False
        return "" in found or digest_of(attempt) in found

    def _work_out(self) -> None:
        lanes: dict[tuple[Any, str], set[str]] = {}
        trials: dict[tuple[Any, str], int] = {}
        for alias, found in self._found.items():
            for pause in found:
                for lane in self._lanes_of(alias, pause):
                    if pause.on_trial:
                        trials[lane] = pause.pk
                    else:
                        lanes.setdefault(lane, set()).add(pause.digest)
        self.lanes, self.trials = lanes, trials
        self.version += 1

    def _lanes_of(self, alias: str, pause: Paused) -> Iterable[tuple[Any, str]]:
        for model, (label, target) in self._labels.items():
            if self._stores[model].alias == alias:
                for state in model.state_graph.states:
                    if pause.is_about(label, state, target):
                        yield model, state


def digest_of(attempt: Attempt) -> str | None:
    """The digest of the attempt's key; None where its state has none."""
    column = attempt.state.limits.key
    if column is None:
        return None
    return key_digest(attempt.row.__dict__.get(limit_attribute(type(attempt.row), column)))
