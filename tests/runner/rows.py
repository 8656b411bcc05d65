"""Looking at rows from outside, as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django_fsmworker import clock
from django_fsmworker.models.records import FailureRecord


def fresh(row: Any) -> Any:
    """The row as the database has it."""
    return type(row)._base_manager.get(pk=row.pk)


def due_in(row: Any) -> float:
    """Seconds until the row is due."""
    seconds: float = (fresh(row).state_next - clock.now()).total_seconds()
    return seconds


def is_due_after(row: Any, began: datetime, seconds: float) -> bool:
    """Whether a write since ``began`` has made the row due so many seconds after it."""
    after = timedelta(seconds=seconds)
    return bool(began + after <= fresh(row).state_next <= clock.now() + after)


def entered(row: Any, seconds_ago: float) -> None:
    """Let the row have entered its state so long ago."""
    moment = clock.now() - timedelta(seconds=seconds_ago)
    type(row).objects.filter(pk=row.pk).update(state_changed=moment)


def lapse(rows: Sequence[Any], times: int = 1) -> None:
    """Leave the rows as a process left them that claimed them and died."""
    now = clock.now()
    type(rows[0]).objects.filter(pk__in=[row.pk for row in rows]).update(
        state_claim=2,
        state_failures=times - 1,
        state_lease=now - timedelta(seconds=1),
        state_next=now - timedelta(seconds=2),
    )


def states(rows: Sequence[Any]) -> list[str]:
    """The states of the rows, in their order."""
    known = dict(type(rows[0]).objects.values_list("pk", "state"))
    return [known[row.pk] for row in rows]


def path(row: Any) -> list[str]:
    """The states that the row has been through."""
    return [state for state, _ in fresh(row).state_history]


def failure(row: Any) -> FailureRecord | None:
    """The row's failure record."""
    return FailureRecord.objects.filter(model=row._meta.label, row=str(row.pk)).first()


def reason(row: Any) -> str:
    """What the row's failure record says."""
    record = failure(row)
    assert record is not None
    return f"{record.error}: {record.message}"
