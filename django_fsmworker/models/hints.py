"""Hints: what one process tells the runners of others, its form on the wire, and its sending.

A hint is sent after a commit, once a transaction and window, never in a test case's own. It says
nothing that the database does not say, too: one that is lost costs a poll interval. So it may be
sent cheaply, by the connection that has just committed, and left out at the least doubt.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from django.core.signals import setting_changed
from django.db import connections, transaction

from django_fsmworker import clock
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.logs import logger_for
from django_fsmworker.models.engine import Transport, engine, is_installed

logger = logger_for(__name__)

EVERY_MODEL: Final = "*"
NOW, SOON, SWEEP, REVOKED, PAUSED = "now", "soon", "sweep", "revoked", "paused"
PROBE: Final = "?"
WORKERS, ORDERS = "!", "orders"

WIRE_FORM = re.compile(
    rf"(\*|\w+\.\w+) ({NOW}|{SOON}|{SWEEP}|{REVOKED}|{PAUSED})|(\?) ([0-9a-f]{{16}})"
    rf"|({WORKERS}) ({ORDERS})"
)


@dataclass(frozen=True, slots=True)
class Hint:
    """What happened to rows of a model; or a runner's probe of its line; or orders to workers.

    Rows are due now or soon, ask for a sweep, were moved while they were held, or are paused, or
    are so no more. ``label`` is a model's label, ``EVERY_MODEL``, ``WORKERS`` or ``PROBE``;
    ``urgency`` is ``NOW``, ``SOON``, ``SWEEP``, ``REVOKED`` or ``PAUSED``, for workers ``ORDERS``,
    for a probe its random token.
    """

    label: str
    urgency: str

    @classmethod
    def probe(cls) -> Hint:
        """A hint that is like no other, for a runner to send to itself."""
        return cls(PROBE, secrets.token_hex(8))

    @property
    def is_for_workers(self) -> bool:
        """Whether it tells that workers have orders."""
        return self.label == WORKERS

    @property
    def is_probe(self) -> bool:
        """Whether it tells of no rows."""
        return self.label == PROBE

    def encode(self) -> str:
        """The text that is sent."""
        return f"{self.label} {self.urgency}"

    @classmethod
    def parse(cls, text: str) -> Hint | None:
        """The hint that ``encode()`` made this text of; None for any other text. Never raises."""
        found = WIRE_FORM.fullmatch(text)
        return cls(*filter(None, found.groups())) if found else None


# A process sends one of these hints at most, for one model, in so many seconds. What is committed
# in the rest of them is found by the second look that each hint makes a runner take afterwards.
WINDOW = 0.05
AFTER_ERROR = 5.0

MOST_COMPARED = 8

sent: Counter[str] = Counter()
_quiet_until: dict[HintSender, float] = {}
_transports: dict[str, Transport | None] = {}


@dataclass(slots=True, eq=False)
class HintSender:
    """Sends one hint to one database, at most once in a window; called after a commit.

    It never raises. There is one object for each thing to say; see ``_sender()``.
    """

    using: str
    hint: Hint

    def __call__(self) -> None:
        # No lock, which a fork might copy in its locked state: two threads may both send.
        now = time.monotonic()
        if now < _quiet_until.get(self, 0.0):
            return
        _quiet_until[self] = now + WINDOW
        try:
            transport = _transport(self.using)
            if transport is not None and transport.send(self.hint):
                sent[self.using] += 1
            else:
                _quiet_until.pop(self, None)  # nothing was said that could stand for the next
        except Exception as error:
            _quiet_until[self] = now + AFTER_ERROR
            logger.debug("A hint was not sent (%s).", error, extra={"action": "hint"})


def hint_due(model: Any, using: str, due_in: float | None) -> None:
    """Tell after the commit that rows of ``model`` are due in ``due_in`` seconds (None: never).

    Rows that are due later than one poll interval from now are found by the runners themselves.
    """
    if due_in is not None and _transport(using) and due_in <= _horizon():
        _after_commit(_sender(using, model, NOW if due_in <= 0 else SOON))


def hint_entered(model: Any, using: str, states: Iterable[Any]) -> None:
    """Tell after the commit that rows of ``model`` entered ``states``, if one of them is swept."""
    swept = model.state_graph.swept_states
    if swept and _transport(using) and _horizon() >= 0 and any(each in swept for each in states):
        _after_commit(_sender(using, model, SWEEP))


def hint_revoked(model: Any, using: str) -> None:
    """Tell after the commit that rows of ``model`` were moved while somebody held them."""
    if _transport(using) and _horizon() >= 0:
        _after_commit(_sender(using, model, REVOKED))


def hint_orders(using: str) -> None:
    """Tell after the commit that workers in the database ``using`` have orders."""
    if _transport(using) and _horizon() >= 0:
        _after_commit(_order_sender(using))


def hint_paused(model: Any, using: str) -> None:
    """Tell after the commit that rows of ``model`` were paused, or are to run again."""
    if _transport(using) and _horizon() >= 0:
        _after_commit(_sender(using, model, PAUSED))


def hint_rows(model: Any, rows: Iterable[Any], using: str) -> None:
    """Tell after the commit of ``rows``: of the earliest due time and of the states they hold."""
    if _transport(using):
        rows = list(rows)
        hint_entered(model, using, (row.__dict__.get("state") for row in rows))
        hint_due(model, using, _first_due_in(row.__dict__.get("state_next") for row in rows))


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


def _transport(using: str) -> Transport | None:
    """The transport of hints of this database, if it has one; none before the application is ready.

    Looked up for every row that is saved, hence kept.
    """
    try:
        return _transports[using]
    except KeyError:
        if not is_installed():
            return None
        return _transports.setdefault(using, engine().hint_transport(using))


@cache
def _sender(using: str, model: Any, urgency: str) -> HintSender:
    """The only sender of this hint, also for the proxies of its model; looked up for every row."""
    owner = model._meta.get_field("state").model  # a proxy has no state of its own
    if owner is not model:
        return _sender(using, owner, urgency)
    return HintSender(using, Hint(owner._meta.label, urgency))


@cache
def _order_sender(using: str) -> HintSender:
    """The only sender of the hint that workers have orders."""
    return HintSender(using, Hint(WORKERS, ORDERS))


def _after_commit(sender: HintSender) -> None:
    """Call ``sender`` after the commit, once a transaction, and never inside a test case's own.

    ``captureOnCommitCallbacks()`` and the tests that count callbacks see nothing of it.
    """
    connection: Any = connections[sender.using]
    blocks = connection.atomic_blocks
    if blocks and any(getattr(block, "_from_testcase", False) for block in blocks):
        return
    if connection.in_atomic_block:
        if not _is_registered(connection, sender):
            transaction.on_commit(sender, using=sender.using, robust=True)
    elif connection.get_autocommit():
        sender()


def _is_registered(connection: Any, sender: HintSender) -> bool:
    """Whether this transaction will send it anyway, if the present savepoint is kept."""
    savepoints = set(connection.savepoint_ids)
    recent = connection.run_on_commit[-MOST_COMPARED:]
    return any(func is sender and kept_by <= savepoints for kept_by, func, *_ in recent)


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


setting_changed.connect(_forget_horizon, dispatch_uid="django_fsmworker.models.hints")
