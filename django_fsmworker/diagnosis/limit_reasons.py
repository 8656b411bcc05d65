"""The reasons for which a runner leaves a due row alone: pauses, breakers, limits, rates.

They are about runners: ``state_get_ready()`` and other claims by code pass them by.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django_fsmworker.diagnosis.situation import Situation
from django_fsmworker.diagnosis.wording import when
from django_fsmworker.graph.durations import span
from django_fsmworker.models.event import is_event
from django_fsmworker.models.explanation import Reason
from django_fsmworker.models.indexes import limit_attribute
from django_fsmworker.models.limits import WHOLE_LANE, Pause, key_digest, key_text
from django_fsmworker.store import buckets, pauses, permits
from django_fsmworker.store.pauses import Paused


def paused(of: Situation) -> Iterator[Reason]:
    """The row belongs to something that is paused."""
    if of.state is None or not (of.state.automatic or of.is_due):
        return
    label, target = of.model._meta.label, of.row.model if is_event(of.model) else ""
    for each in pauses.current(of.store.alias, [label, target]):
        if not each.is_about(label, of.row.state, target):
            continue
        if each.digest not in ("", key_digest(_key(of))):
            continue
        yield _breaker(of, each) if each.kind == Pause.Kind.BREAKER else _pause(of, each)


def at_limit(of: Situation) -> Iterator[Reason]:
    """As many rows run as may run at once."""
    if of.state is None or of.state.limits.limit is None or not of.is_due or of.is_held:
        return
    limits, key = of.state.limits, _key(of, of.state.limits.limit_by is not None)
    used = permits.in_use(of.store.alias, of.model._meta.label, of.row.state, key)
    if limits.limit is not None and used >= limits.limit:
        yield Reason(
            "at_limit",
            f"In the state {of.state}{_with(of, key)} {limits.limit} rows run at once, as many as "
            f"its limit allows.",
            "It runs when one of them has ended.",
            {"limit": limits.limit, "in_use": used, "key": key_text(key)},
        )


def at_rate(of: Situation) -> Iterator[Reason]:
    """As many attempts have begun as may begin."""
    if of.state is None or of.state.limits.rate is None or not of.is_due or of.is_held:
        return
    rate, key = of.state.limits.rate, _key(of, of.state.limits.rate_by is not None)
    there, wait = buckets.available(of.store.alias, of.model._meta.label, of.row.state, rate, key)
    if there < 1:
        yield Reason(
            "at_rate",
            f"In the state {of.state}{_with(of, key)} as many attempts have begun as its rate of "
            f"{rate} allows; the next one may begin in {span(wait)}.",
            "",
            {"rate": str(rate), "wait": wait, "key": key_text(key)},
        )


LIMIT_REASONS = (paused, at_limit, at_rate)


def _pause(of: Situation, pause: Paused) -> Reason:
    what = _what(pause)
    by = "a check" if pause.kind == Pause.Kind.CHECK else pause.by
    until = None if pause.left is None else of.now + timedelta(seconds=pause.left)
    end = f" until {when(until, of.now)}" if until else ""
    return Reason(
        "paused",
        f"{what} is paused{f' by {by}' if by else ''}{end}"
        f"{f': {pause.reason.rstrip(chr(46))}' if pause.reason else ''}.",
        "Lift it with 'manage.py stator resume', or resume().",
        _evidence(pause, until),
    )


def _breaker(of: Situation, pause: Paused) -> Reason:
    until = of.now + timedelta(seconds=pause.left or 0.0)
    rest = (
        "one row is tried before the others go on"
        if pause.on_trial
        else f"one row is tried at {when(until, of.now)}"
    )
    return Reason(
        "breaker_open",
        f"The breaker of the state {pause.state} is open, since most checks failed "
        f"({pause.reason}); {rest}.",
        "Mend the cause, or lift it with 'manage.py stator resume'.",
        _evidence(pause, until) | {"on_trial": pause.on_trial},
    )


def _what(pause: Paused) -> str:
    if not pause.model:
        return "Every model"
    if not pause.state and not pause.digest:
        return f"The model {pause.model}"
    key = f"The key {pause.key}" if pause.digest else ""
    state = f"{'the' if key else 'The'} state {pause.state}" if pause.state else pause.model
    return " in ".join(filter(None, [key, state]))


def _evidence(pause: Paused, until: Any) -> dict[str, Any]:
    return {
        "pause": pause.pk,
        "by": pause.by,
        "reason": pause.reason,
        "kind": pause.kind,
        "until": until,
    }


def _key(of: Situation, by_key: bool = True) -> Any:
    """The row's value in the column by which its state is limited."""
    column = of.state.limits.key if of.state is not None else None
    if column is None or not by_key:
        return WHOLE_LANE
    return of.row.__dict__[limit_attribute(of.model, column)]


def _with(of: Situation, key: Any) -> str:
    if key is WHOLE_LANE or of.state is None:
        return ""
    return f" with {of.state.limits.key}={key_text(key)}"
