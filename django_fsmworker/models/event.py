"""The record of a durable event: itself a row with a life, in the database of the row it is for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_fsmworker.conf import EventSettings
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.graph.backoff import exponential
from django_fsmworker.models.companions import companion, companion_of
from django_fsmworker.models.engine import engine
from django_fsmworker.models.fields import StateField
from django_fsmworker.models.keys import LONGEST_KEY, declaring_model, row_digest, row_key
from django_fsmworker.models.stator_model import StatorModel
from django_fsmworker.traces import LONGEST

MOST_TOGETHER = 100

# How often an event is tried, unless its submitter says otherwise.
DEFAULT_ATTEMPTS = 5


def _kept() -> timedelta:
    try:
        settings = EventSettings.load()
    except ConfigurationError:  # said by manage.py check and by the runner
        settings = EventSettings()
    return timedelta(seconds=settings.keep_events)


_KEPT = _kept()


class EventStates(StateGraph):
    """The life of an event: it waits, and then it has come to one of four ends."""

    pending = State(
        batch=MOST_TOGETHER,
        max_attempts=DEFAULT_ATTEMPTS,
        backoff=exponential(base=1, cap=300),
        retry_after=5,
        label=_("pending"),
    )
    delivered = State(delete_after=_KEPT, label=_("delivered"))
    discarded = State(delete_after=_KEPT, label=_("discarded"))
    failed = State(delete_after=_KEPT, label=_("failed"))
    cancelled = State(delete_after=_KEPT, label=_("cancelled"))

    pending.transitions_to(delivered, discarded, cancelled)
    pending.fails_to(failed)

    @classmethod
    def check_pending(cls, events: list[Any]) -> list[Any]:
        return engine().deliver(events)


@companion
class Event(StatorModel):
    """A durable event of one row, from ``submit_event()`` to its end.

    ``reason`` says why it was discarded, failed or cancelled, what it waits for, or what its last
    attempt failed with; ``failure`` has all that is known of that.
    """

    state = StateField(EventStates)

    model = models.CharField(_("model"), max_length=200)
    row = models.CharField(_("row"), max_length=LONGEST_KEY, help_text=_("The row's primary key."))
    row_hash = models.BigIntegerField(editable=False)
    trigger = models.CharField(_("trigger"), max_length=100)
    context = models.JSONField(_("context"), default=dict, encoder=DjangoJSONEncoder)
    by = models.CharField(_("by"), max_length=255, blank=True, default="")
    by_pk = models.CharField(max_length=255, null=True, editable=False)  # noqa: DJ001 (no user)
    submitted = models.DateTimeField(_("submitted"))
    fires_at = models.DateTimeField(_("fires at"))
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    max_attempts = models.PositiveSmallIntegerField(_("attempts"), default=DEFAULT_ATTEMPTS)
    idempotency_key = models.CharField(_("idempotency key"), max_length=255, blank=True, default="")
    # Unique, and so NULL where there is no key.
    idempotency_digest = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001
    reason = models.CharField(_("reason"), max_length=255, blank=True, default="")
    # NULL takes no place, and most projects have no traces.
    trace = models.CharField(max_length=LONGEST, null=True, editable=False)  # noqa: DJ001

    state_lanes_by: ClassVar[str | None] = "model"
    state_target: ClassVar[Any] = None
    """The model whose events these are, of the classes that ``events_of()`` returns."""

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        permissions = (
            ("cancel_event", "Can cancel durable events"),
            ("retry_event", "Can have durable events tried again"),
        )
        indexes = (
            models.Index(
                fields=["model", "row_hash", "state", "fires_at", "id"],
                condition=Q(state="pending"),
                name="fsmworker_event_order",
            ),
            # For the page of a row: those that have ended, too.
            models.Index(fields=["row_hash"], name="fsmworker_event_row"),
        )
        constraints = (
            models.UniqueConstraint(
                fields=["model", "idempotency_digest"], name="fsmworker_event_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.trigger} for {self.model} {self.row}"

    @property
    def state_max_attempts(self) -> int:
        """Failures in a row after which the event has failed for good."""
        return self.max_attempts


def events_of(target: Any) -> Any:
    """The events of the rows of ``target``, as a model of their own."""
    return companion_of(Event, target)


def is_event(model: Any) -> bool:
    """Whether ``model`` is ``Event``, or the events of one model."""
    return issubclass(model, Event)


def record_labels(model: Any) -> tuple[str, str]:
    """The labels by which records name ``model``, and the model that its rows are events for.

    The latter is empty for a model that is no other's events.
    """
    target = model.state_target if is_event(model) else None
    return declaring_model(model)._meta.label, target._meta.label if target else ""


def hash_of(row: str, key: Any) -> int:
    """What a row's events are found by: its key if that is a number, or a hash of its name."""
    if type(key) is int and -(2**63) <= key < 2**63:
        return key
    return int.from_bytes(bytes.fromhex(row_digest(row)[:16]), "big", signed=True)


def named(model: Any, key: Any) -> tuple[str, int]:
    """How events name the row of ``model`` with this key: its text and its hash."""
    row = row_key(key)
    return row, hash_of(row, key)
