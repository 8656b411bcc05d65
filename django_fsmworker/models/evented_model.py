"""The verbs of a row for what a runner delivers or does later: durable events, and touches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict, Unpack

from asgiref.sync import sync_to_async

from django_fsmworker.graph.durations import Duration
from django_fsmworker.models.engine import engine
from django_fsmworker.models.operated_model import OperatedModel
from django_fsmworker.models.touching import touch


class ManyEventsOptions(TypedDict, total=False):
    """What an event for each of many rows is submitted with; ``Submission`` says what each is."""

    fires_at: datetime | None
    delay: Duration | None
    max_attempts: int
    expires_in: Duration | None
    by: Any


class EventOptions(ManyEventsOptions, total=False):
    """What an event is submitted with; ``Submission`` says what each is."""

    idempotency_key: str | None


class EventedModel(OperatedModel):
    """The part of ``StatorModel`` with durable events and touches."""

    class Meta:
        abstract = True

    def state_submit(
        self,
        trigger: str,
        context: Mapping[str, Any] | None = None,
        **options: Unpack[EventOptions],
    ) -> int:
        """Write an event for the row, which a runner delivers; the key of its ``Event``.

        It is written in the row's database, in the caller's transaction. The options (``fires_at``,
        ``delay``, ``idempotency_key``, ``max_attempts``, ``expires_in`` and ``by``) are those of
        ``django_fsmworker.events.Submission``; what is raised is that of ``submit_event()``.
        """
        return engine().submit(self, trigger, context, **options)

    async def astate_submit(
        self,
        trigger: str,
        context: Mapping[str, Any] | None = None,
        **options: Unpack[EventOptions],
    ) -> int:
        """``state_submit()`` for async code."""
        return await sync_to_async(self.state_submit)(trigger, context, **options)

    def state_touch(self, after: Duration = 30, at_most: Duration = 300) -> bool:
        """Have the row's check run soon; whether that had to be written.

        The check runs ``after`` from now, unless it is due before: so of many touches the first
        writes, and one check follows them all. A row that is failing keeps its backoff, but no
        longer than ``at_most``. If a check is running, the next one follows at the latest when its
        lease would have run out. Nothing is done in a state without a check, nor on a parked row.

        Args:
            after: Time until the check, in seconds or as a ``timedelta``.
            at_most: The most that a failing row waits, likewise.

        Raises:
            GraphError: A duration is none.
        """
        return touch(self, after, at_most)

    state_touch.alters_data = True  # type: ignore[attr-defined]

    async def astate_touch(self, after: Duration = 30, at_most: Duration = 300) -> bool:
        """``state_touch()`` for async code."""
        return await sync_to_async(self.state_touch)(after, at_most)
