"""Writing outcomes back together with what they leave on record."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from django_fsmworker.models.announcing import announce_moved
from django_fsmworker.models.moving import resolve_failures
from django_fsmworker.runner.judging.one import failed, parked
from django_fsmworker.signals import check_failed, row_expired, state_changed
from django_fsmworker.store import Outcome, Store
from django_fsmworker.store.claims import taken_over
from django_fsmworker.store.errors import is_cancelled, is_refusal
from django_fsmworker.store.failures import Failure, record, survived

logger = logging.getLogger(__name__)


def write(store: Store, model: Any, outcomes: Sequence[Outcome], worker: str) -> set[Any]:
    """Settle a batch; returns the keys of the rows it changed. One statement if nobody failed."""
    failing = [each for each in outcomes if each.failure is not None]
    recovered = [each for each in outcomes if each.failure is None and _was_failing(each)]
    if not failing and not recovered:
        return store.settle(model, outcomes)
    with store.transaction():
        keys = store.settle(model, outcomes)
        noted = [(each.pk, each.source, each.failure) for each in failing if each.pk in keys]
        if noted:
            record(store.alias, model, noted, worker)  # type: ignore[arg-type]
        resolve_failures(model, [each.pk for each in recovered if each.pk in keys], store.alias)
        lived = [each.pk for each in failing if each.pk in keys and taken_over(each.token)]
        if lived:
            survived(store.alias, model, lived)
    return keys


def write_split(
    store: Store, model: Any, outcomes: Sequence[Outcome], worker: str
) -> tuple[set[Any], list[tuple[Outcome, Exception]]]:
    """Settle a batch that the database may refuse for the data of one row, or for its size.

    The batch is halved until that row stands alone. Returns the keys written, and the outcomes
    refused with the database's reason. A row alone is not to blame for a statement that took long.
    """
    alone = len(outcomes) == 1
    try:
        return write(store, model, outcomes, worker), []
    except Exception as error:
        if not is_refusal(error) and (alone or not is_cancelled(error)):
            raise
        if alone:
            return set(), [(outcomes[0], error)]
    middle = len(outcomes) // 2
    first, refused_first = write_split(store, model, outcomes[:middle], worker)
    second, refused_second = write_split(store, model, outcomes[middle:], worker)
    return first | second, refused_first + refused_second


def refused(outcome: Outcome, error: Exception) -> Outcome:
    """What becomes of a row whose outcome the database does not take: it failed where it was.

    If that outcome was a failure already, its failure state is what is refused: the row is parked.
    """
    state = type(outcome.row).state_graph.get(outcome.source)
    if outcome.failure is not None:
        return parked(outcome.row, outcome.pk, outcome.token, state, Failure.of(error))
    return failed(outcome.row, outcome.pk, outcome.token, state, Failure.of(error), age=0.0)


def tell(model: Any, outcomes: Sequence[Outcome], using: str) -> None:
    """Send the signals for outcomes that are committed; nothing while nobody listens."""
    if state_changed.has_listeners(model):
        for outcome in outcomes:
            if outcome.moved:
                announce_moved(
                    model, [(outcome.pk, outcome.source)], outcome.target, using, outcome.cause
                )
    if check_failed.has_listeners(model):
        for outcome in outcomes:
            if outcome.failure is not None:
                check_failed.send_robust(
                    sender=model,
                    pk=outcome.pk,
                    source=outcome.source,
                    error=f"{outcome.failure.error}: {outcome.failure.message}",
                    failures=outcome.attempt,
                    using=using,
                )


def tell_expired(model: Any, keys: Sequence[Any], state: str, using: str) -> None:
    """Send the signal for rows that were deleted."""
    if row_expired.has_listeners(model):
        for pk in keys:
            row_expired.send_robust(sender=model, pk=pk, source=state, using=using)


def log_failures(model: Any, outcomes: Sequence[Outcome]) -> None:
    """One warning for each that failed."""
    for outcome in outcomes:
        if outcome.failure is not None:
            logger.warning(
                "%s %s failed in the state %s: %s: %s",
                model._meta.label,
                outcome.pk,
                outcome.source,
                outcome.failure.error,
                outcome.failure.message.partition("\n")[0],  # what follows may show the row's data
                extra={
                    "action": outcome.kind.value,
                    "model": model._meta.label,
                    "pk": outcome.pk,
                    "state": outcome.source,
                    "attempt": outcome.attempt,
                },
            )


def _was_failing(outcome: Outcome) -> bool:
    return bool(outcome.row.__dict__["state_failures"])
