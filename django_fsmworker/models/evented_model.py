"""The verb of a row for events that a runner delivers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async

from django_fsmworker.graph.durations import Duration
from django_fsmworker.models.engine import engine
from django_fsmworker.models.operated_model import OperatedModel

# How often an event is tried, unless its submitter says otherwise.
DEFAULT_ATTEMPTS = 5


class EventedModel(OperatedModel):
    """The part of ``StatorModel`` with durable events."""

    class Meta:
        abstract = True

    def state_submit(
        self,
        trigger: str,
        context: Mapping[str, Any] | None = None,
        *,
        fires_at: datetime | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        max_attempts: int = DEFAULT_ATTEMPTS,
        expires_in: Duration | None = None,
        by: Any = None,
    ) -> int:
        """Write an event for the row, which a runner delivers; the key of its ``Event``.

        It is written in the row's database, in the caller's transaction. The arguments, and what is
        raised, are those of ``django_fsmworker.events.submit_event()``.
        """
        return engine().submit(
            self,
            trigger,
            context,
            fires_at=fires_at,
            delay=delay,
            idempotency_key=idempotency_key,
            max_attempts=max_attempts,
            expires_in=expires_in,
            by=by,
        )

    async def astate_submit(
        self,
        trigger: str,
        context: Mapping[str, Any] | None = None,
        *,
        fires_at: datetime | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        max_attempts: int = DEFAULT_ATTEMPTS,
        expires_in: Duration | None = None,
        by: Any = None,
    ) -> int:
        """``state_submit()`` for async code."""
        return await sync_to_async(self.state_submit)(
            trigger,
            context,
            fires_at=fires_at,
            delay=delay,
            idempotency_key=idempotency_key,
            max_attempts=max_attempts,
            expires_in=expires_in,
            by=by,
        )
