"""Outcomes written back, with what they leave on record and to the signals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import DatabaseError, Error, transaction

from django_fsmworker.events.endings import note_failures
from django_fsmworker.logs import logger_for
from django_fsmworker.models.event import is_event
from django_fsmworker.models.hints import hint_paused
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.limits import Pause, key_digest
from django_fsmworker.models.resolving import resolve_failures
from django_fsmworker.models.telling import send_committed_change, wake_events
from django_fsmworker.runner.execution.outcomes import refused_outcome
from django_fsmworker.signals import check_failed, row_expired, state_changed
from django_fsmworker.store import Outcome, Store, pauses
from django_fsmworker.store.errors import is_cancelled, is_refusal, may_be_mismatch
from django_fsmworker.store.failures import record, survived
from django_fsmworker.store.fence import Fence, taken_over
from django_fsmworker.store.pauses import PauseRequest

logger = logger_for(__name__)

Signalling = Callable[[], object]

# The outcome, the failure in its place, the failure that parks the row.
MOST_TRIES = 3


class _NotWoken(Exception):
    """The events that wait for rows could not be made due."""


def write(store: Store, model: Any, outcomes: Sequence[Outcome], worker: str) -> set[Any]:
    """Settle a batch; returns the keys of the rows it changed. One statement if nobody failed.

    Where the graph declares events, another one makes those due that wait for the rows.
    """
    return waking_events(store, model, lambda: _write(store, model, outcomes, worker))


def waking_events(store: Store, model: Any, write: Callable[[], set[Any]]) -> set[Any]:
    """What ``write()`` returns: the keys of rows that it has written.

    If the graph declares events, those that wait for these rows are made due in the same
    transaction: whatever is killed in between, an event does not rest while its row has moved on.
    If that fails, the rows are written all the same, and the events are looked at later.
    """
    if not model.state_graph.triggers:
        return write()
    if not store.connection.in_atomic_block:
        try:
            with store.transaction():
                return _write_and_wake(store, model, write)
        except _NotWoken:
            pass
    keys = write()
    wake_events_of(store, model, keys)
    return keys


def _write_and_wake(store: Store, model: Any, write: Callable[[], set[Any]]) -> set[Any]:
    keys = write()
    try:
        wake_events(model, list(keys), store.alias)
    except Error as error:
        raise _NotWoken from error
    return keys


def wake_events_of(store: Store, model: Any, keys: Collection[Any]) -> None:
    """Make the events due that wait for these rows; if it fails, they are looked at later."""
    if not keys or not model.state_graph.triggers:
        return
    try:
        with store.inside():
            wake_events(model, list(keys), store.alias)
    except Error as error:
        logger.debug(
            "Events that wait for rows of %s are looked at later (%s).",
            model._meta.label,
            error,
            extra={"action": "events_wait", "model": model._meta.label},
        )


def _write(store: Store, model: Any, outcomes: Sequence[Outcome], worker: str) -> set[Any]:
    for each in outcomes:
        if (
            each.failure is not None
            or each.pause is not None
            or each.row.__dict__["state_failures"]
        ):
            break
    else:
        return store.settle(model, outcomes, worker)
    failing = [each for each in outcomes if each.failure is not None]
    recovered = [each for each in outcomes if each.failure is None and _has_recovered(each)]
    pausing = [each for each in outcomes if each.pause is not None]
    if not failing and not recovered and not pausing:
        return store.settle(model, outcomes, worker)
    with store.transaction():
        keys = store.settle(model, outcomes, worker)
        noted = [
            (each.pk, each.source, failure)
            for each in failing
            if (failure := each.failure) is not None and each.pk in keys
        ]
        if noted:
            went_to = {each.pk: each.target for each in failing if each.moved}
            record(store.alias, model, noted, worker, went_to)
            if is_event(model):
                note_failures(store.alias, [(pk, failure.sentence) for pk, _, failure in noted])
        _pause(store.alias, model, [each for each in pausing if each.pk in keys], worker)
        resolve_failures(model, [each.pk for each in recovered if each.pk in keys], store.alias)
        lived = [each.pk for each in failing if each.pk in keys and taken_over(each.token)]
        if lived:
            survived(store.alias, model, lived)
    return keys


def _pause(using: str, model: Any, outcomes: Sequence[Outcome], worker: str) -> None:
    """Write the pauses that checks have asked for, the longest of those for the same rows."""
    longest: dict[tuple[str, str], tuple[str, PauseRequest]] = {}
    for outcome in outcomes:
        if outcome.pause is not None:
            same = outcome.source, key_digest(outcome.pause.key)
            _, known = longest.get(same, (None, None))
            if known is None or known.seconds < outcome.pause.seconds:
                longest[same] = outcome.source, outcome.pause
    for _, (state, request) in sorted(longest.items(), key=lambda each: each[0]):
        pauses.add(
            using,
            model._meta.label,
            state,
            request.key,
            request.seconds,
            kind=Pause.Kind.CHECK,
            by=worker,
            reason=request.reason,
        )
    if longest:
        hint_paused(model, using)


@dataclass(slots=True)
class Written:
    """What became of outcomes that were offered to the database, by the keys of their rows.

    ``replaced`` are the failures that took the place of refused outcomes, ``refusals`` the errors
    in order, ``unwritable`` the rows to which the database refuses every write.
    """

    keys: set[Any] = field(default_factory=set)
    replaced: dict[Any, Outcome] = field(default_factory=dict)
    refusals: list[Exception] = field(default_factory=list)
    unwritable: list[Any] = field(default_factory=list)


def write_or_fail(store: Store, model: Any, outcomes: Sequence[Outcome], worker: str) -> Written:
    """Settle a batch; a row whose outcome the database refuses has failed, and then is parked.

    Raises what is no row's fault: the database is away, or could not decide between transactions.
    """
    written = Written()
    for _ in range(MOST_TRIES):
        keys, not_taken = _write_split(store, model, outcomes, worker)
        written.keys |= keys
        if not not_taken:
            return written
        written.refusals += [error for _, error in not_taken]
        outcomes = [refused_outcome(outcome, error) for outcome, error in not_taken]
        written.replaced |= {outcome.pk: outcome for outcome in outcomes}
    written.unwritable = [outcome.pk for outcome in outcomes]
    return written


def _write_split(
    store: Store, model: Any, outcomes: Sequence[Outcome], worker: str, *, again: bool = False
) -> tuple[set[Any], list[tuple[Outcome, Exception]]]:
    """Settle a batch that the database may refuse for the data of one row, or for its size.

    The batch is halved until that row stands alone. Returns the keys written, and the outcomes
    refused with the database's reason. A row alone is not to blame for a statement that took long,
    nor for a table that was not as expected and is so by the time it is looked at.
    """
    alone = len(outcomes) == 1
    try:
        with store.inside():
            return write(store, model, outcomes, worker), []
    except Exception as error:
        if not is_refusal(error) and (alone or not is_cancelled(error)):
            raise
        if store.mismatch(model, error):
            raise
        mended = may_be_mismatch(error) and not again
        if alone and not mended:
            return set(), [(outcomes[0], error)]
    if mended:
        return _write_split(store, model, outcomes, worker, again=True)
    middle = len(outcomes) // 2
    first, refused_first = _write_split(store, model, outcomes[:middle], worker)
    second, refused_second = _write_split(store, model, outcomes[middle:], worker)
    return first | second, refused_first + refused_second


def write_in_parts(
    write: Callable[[Sequence[Fence]], set[Any]],
    fences: Sequence[Fence],
    explains: Callable[[DatabaseError], bool],
    *,
    again: bool = False,
) -> tuple[set[Any], list[Fence]]:
    """Renew or free rows, of which the database may refuse a single one: the others are written.

    Returns the keys written, and the rows refused. Raises an outage, and what ``explains`` knows
    to be no row's fault. A table that is as expected again by the time it is looked at blames none.
    """
    try:
        return write(fences), []
    except DatabaseError as error:
        if not is_refusal(error) or explains(error):
            raise
        mended = may_be_mismatch(error) and not again
        if len(fences) == 1 and not mended:
            return set(), list(fences)
    if mended:
        return write_in_parts(write, fences, explains, again=True)
    middle = len(fences) // 2
    first, refused_first = write_in_parts(write, fences[:middle], explains)
    second, refused_second = write_in_parts(write, fences[middle:], explains)
    return first | second, refused_first + refused_second


def signals_of(model: Any, outcomes: Sequence[Outcome], using: str) -> list[Signalling]:
    """What sends the signals for outcomes that are committed, each when it is called.

    Nothing while nobody listens. They are the last to be told: nobody else holds the exceptions.
    """
    signals: list[Signalling] = []
    if state_changed.has_listeners(declaring_model(model)):
        for outcome in outcomes:
            if outcome.moved:
                moved = [(outcome.pk, outcome.source)]
                signals += _changes_of(model, moved, outcome.target, using, outcome.cause)
    if check_failed.has_listeners(declaring_model(model)):
        signals += [
            partial(
                check_failed.send_robust,
                sender=declaring_model(model),
                pk=outcome.pk,
                source=outcome.source,
                ending=outcome.ending.value,
                error=f"{outcome.failure.error}: {outcome.failure.message}",
                exception=outcome.failure.exception,
                failures=outcome.attempt,
                using=using,
            )
            for outcome in outcomes
            if outcome.failure is not None
        ]
    for outcome in outcomes:
        if outcome.failure is not None:
            outcome.failure.told()
    return signals


def changes_of(
    model: Any, moved: Iterable[tuple[Any, str | None]], target: str, using: str, cause: str
) -> list[Signalling]:
    """What sends ``state_changed`` for each ``(key, source)``; nothing while nobody listens."""
    if not state_changed.has_listeners(declaring_model(model)):
        return []
    return _changes_of(model, moved, target, using, cause)


def _changes_of(
    model: Any, moved: Iterable[tuple[Any, str | None]], target: str, using: str, cause: str
) -> list[Signalling]:
    return [partial(send_committed_change, model, [row], target, using, cause) for row in moved]


def expiries_of(model: Any, keys: Sequence[Any], state: str, using: str) -> list[Signalling]:
    """What sends ``row_expired`` for rows that were deleted; nothing while nobody listens."""
    owner = declaring_model(model)
    if not row_expired.has_listeners(owner):
        return []
    return [
        partial(row_expired.send_robust, sender=owner, pk=pk, source=state, using=using)
        for pk in keys
    ]


def send_after_commit(signals: Iterable[Signalling], using: str) -> None:
    """Send signals once the caller's transaction, if there is one, is committed."""
    for send in signals:
        transaction.on_commit(send, using=using)


def _has_recovered(outcome: Outcome) -> bool:
    return bool(outcome.row.__dict__["state_failures"]) and not outcome.failures
