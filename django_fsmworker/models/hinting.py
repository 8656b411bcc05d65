"""Hints: telling the runners of other processes, after the commit, that rows are due or soon will.

A hint says nothing that the database does not say, too: one that is lost costs a poll interval. So
it may be sent cheaply, by the connection that has just committed, and left out at the least doubt.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from django.core.signals import setting_changed
from django.db import connections, transaction

from django_fsmworker import clock
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.models import door

logger = logging.getLogger(__name__)

NOW, SOON, SWEEP = "now", "soon", "sweep"

# A process sends one of these hints at most, for one model, in so many seconds. What is committed
# in the rest of them is found by the second look that each hint makes a runner take afterwards.
WINDOW = 0.05
AFTER_ERROR = 5.0

TELLING = {"postgresql"}  # SQLite's runners look at the file's version instead
MOST_COMPARED = 8

sent: Counter[str] = Counter()
_quiet_until: dict[Hint, float] = {}


@dataclass(slots=True, eq=False)
class Hint:
    """Rows of a model are due now, or soon, or ask for a sweep; called once that is committed.

    It never raises. There is one object for each thing to say; see ``_hint()``.
    """

    using: str
    label: str
    kind: str

    def __call__(self) -> None:
        # No lock, which a fork might copy in its locked state: two threads may both send.
        now = time.monotonic()
        if now < _quiet_until.get(self, 0.0):
            return
        _quiet_until[self] = now + WINDOW
        try:
            if door.engine().hint(f"{self.label} {self.kind}", self.using):
                sent[self.using] += 1
            else:
                _quiet_until.pop(self, None)  # nothing was said that could stand for the next
        except Exception as error:
            _quiet_until[self] = now + AFTER_ERROR
            logger.debug("A hint was not sent (%s).", error, extra={"action": "hint"})


def announce(model: Any, using: str, due_in: float | None) -> None:
    """Rows of ``model`` were made due in so many seconds (None: never) by this transaction.

    What is due later than one poll interval from now the runners find by themselves.
    """
    _announce(model, connections[using], due_in)


def announce_rows(model: Any, rows: Iterable[Any], using: str) -> None:
    """As ``announce()``, by the earliest due time that one of ``rows`` holds, and by its state."""
    connection = connections[using]  # once: for a row that is saved it is a part of the price
    if connection.vendor not in TELLING:
        return
    rows = list(rows)
    _announce_entered(model, connection, (row.__dict__.get("state") for row in rows))
    _announce(model, connection, _first_due_in(row.__dict__.get("state_next") for row in rows))


def _first_due_in(moments: Iterable[Any]) -> float | None:
    """Seconds until the first of these moments, 0 when one has come; None if there are none."""
    first, now = None, clock.now()
    for moment in moments:
        if moment is None:
            continue
        if not isinstance(moment, datetime) or moment <= now:  # what the database computes may be
            return 0.0
        first = moment if first is None else min(first, moment)
    return None if first is None else (first - now).total_seconds()


def announce_entered(model: Any, using: str, states: Iterable[Any]) -> None:
    """Rows of ``model`` entered ``states`` in this transaction: a sweep should look there soon."""
    _announce_entered(model, connections[using], states)


def _announce(model: Any, connection: Any, due_in: float | None) -> None:
    if due_in is None or connection.vendor not in TELLING or due_in > _horizon():
        return
    _after_commit(connection, _hint(connection.alias, model, NOW if due_in <= 0 else SOON))


def _announce_entered(model: Any, connection: Any, states: Iterable[Any]) -> None:
    swept = model.state_graph.swept_states
    if not swept or connection.vendor not in TELLING or _horizon() < 0:
        return
    if any(state in swept for state in states):
        _after_commit(connection, _hint(connection.alias, model, SWEEP))


@cache
def _hint(using: str, model: Any, kind: str) -> Hint:
    """Looked up for every row that is saved, hence kept."""
    owner = model._meta.get_field("state").model  # a proxy has no state of its own
    return Hint(using, owner._meta.label, kind) if owner is model else _hint(using, owner, kind)


def _after_commit(connection: Any, hint: Hint) -> None:
    """Call ``hint`` after the commit, once a transaction, and never inside a test case's own.

    ``captureOnCommitCallbacks()`` and the tests that count callbacks see nothing of it.
    """
    blocks = connection.atomic_blocks
    if blocks and any(getattr(block, "_from_testcase", False) for block in blocks):
        return
    if connection.in_atomic_block:
        if not _is_announced(connection, hint):
            transaction.on_commit(hint, using=hint.using, robust=True)
    elif connection.get_autocommit():
        hint()


def _is_announced(connection: Any, hint: Hint) -> bool:
    """Whether this transaction will send it anyway, if the present savepoint is kept."""
    savepoints = set(connection.savepoint_ids)
    recent = connection.run_on_commit[-MOST_COMPARED:]
    return any(func is hint and kept_by <= savepoints for kept_by, func, *_ in recent)


@cache
def _horizon() -> float:
    """Seconds ahead for which hints are sent; below every due time where they are off."""
    try:
        settings = RunnerSettings.load()
    except ConfigurationError:  # said by manage.py check and by the runner
        return float("-inf")
    return settings.poll_interval if settings.hints else float("-inf")


def _forget_horizon(*, setting: str, **kwargs: Any) -> None:
    if setting.startswith(("FSMWORKER", "STATOR_")):
        _horizon.cache_clear()


setting_changed.connect(_forget_horizon, dispatch_uid="django_fsmworker.hinting")
