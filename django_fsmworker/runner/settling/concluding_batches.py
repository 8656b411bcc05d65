"""What the call of a batch comes to when it has ended by itself."""

from __future__ import annotations

from collections.abc import Callable

from django_fsmworker.runner.settling.concluding import LEFT_OPEN, Losses, halved
from django_fsmworker.runner.work.batch import Batch, Result
from django_fsmworker.store import Outcome
from django_fsmworker.store.failures import Failure

Judged = list[Outcome] | Failure


def came_to(
    batch: Batch,
    judged: Judged,
    losses: Losses,
    lost: Callable[[], bool],
    left_open: Callable[[], bool],
) -> Result:
    """An outcome for each row, None for those that were interrupted; or its halves.

    ``lost`` tells whether a database went away under the check, ``left_open`` whether a transaction
    was left open.
    """
    if batch.overran or batch.cancelled:
        return None  # it was ended from outside: what that comes to is decided elsewhere
    if isinstance(judged, Failure):
        if not (losses.explains(batch, judged) or lost()):
            return halved(batch, judged)
        # Which row did it, if any did, will show: each of them is noted, and runs alone next time.
        outages = [losses.is_outage(each) for each in batch.attempts]
        return None if all(outages) else halved(batch, judged)
    if left_open():
        return halved(batch, LEFT_OPEN)
    failures = [each.failure for each in judged if each.failure is not None]
    explained = any(losses.explains(batch, each) for each in failures)
    if not explained and not (failures and lost()):
        return judged
    return [
        None if each.failure is not None and losses.is_outage(attempt) else each
        for attempt, each in zip(batch.attempts, judged, strict=True)
    ]
