"""Durable events: what is said to rows, and delivered by the runner that runs them."""

from __future__ import annotations

from django_fsmworker.events.intervening import (
    acancel_event,
    aretry_event,
    cancel_event,
    retry_event,
)
from django_fsmworker.events.submission import Submission
from django_fsmworker.events.submitting import (
    asubmit_event,
    asubmit_events,
    submit_event,
    submit_events,
)
from django_fsmworker.models.evented_model import EventOptions, ManyEventsOptions

__all__ = [
    "EventOptions",
    "ManyEventsOptions",
    "Submission",
    "acancel_event",
    "aretry_event",
    "asubmit_event",
    "asubmit_events",
    "cancel_event",
    "retry_event",
    "submit_event",
    "submit_events",
]
