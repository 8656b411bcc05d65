"""The record of one thing that is done to many rows: itself a row with a life, in their database.

It is worked off by whoever runs the rows that it is for, some of them at a time in the order of
their keys. What was done to them, and how far it has come, is written in one transaction.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.translation import gettext_lazy as _

from django_fsmworker.graph import State, StateGraph
from django_fsmworker.graph.backoff import exponential
from django_fsmworker.models.companions import companion, companion_of
from django_fsmworker.models.engine import engine
from django_fsmworker.models.fields import StateField
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.stator_model import StatorModel

KEPT = timedelta(days=30)
_TRIED: dict[str, Any] = {"max_attempts": 5, "backoff": exponential(base=1, cap=60)}


class BulkActionStates(StateGraph):
    """The life of a bulk action; one that was stopped, or has failed, can go on where it was."""

    pending = State(label=_("pending"), force_initial=True, **_TRIED)
    # Each takes a thread for seconds: most of them are to be left to rows.
    running = State(label=_("running"), share=0.25, **_TRIED)
    stopped = State(label=_("stopped"), manual=True)
    failed = State(label=_("failed"), manual=True)
    done = State(label=_("done"), delete_after=KEPT)

    pending.transitions_to(running, stopped, failed)
    running.transitions_to(done, stopped, failed)
    pending.fails_to(failed)
    running.fails_to(failed)
    stopped.transitions_to(pending)
    failed.transitions_to(pending)

    @classmethod
    def check_pending(cls, action: Any) -> Any:
        return engine().begin_bulk(action)

    @classmethod
    def check_running(cls, action: Any) -> Any:
        return engine().run_bulk(action)


@companion
class BulkAction(StatorModel):
    """One thing that is done to all rows that matched a filter, by the runners of these rows.

    ``rows`` is the filter, frozen and signed when the action was started. ``cursor`` and ``end``
    are keys: those up to the one were looked at, those behind the other have come later.
    ``skipped`` has for each reason to leave rows out their number, and the keys of some. ``note``
    says why it has failed, unless an exception did it: then ``failure`` does.
    """

    state = StateField(BulkActionStates)

    model = models.CharField(_("model"), max_length=200)
    listed = models.CharField(max_length=200, editable=False)
    verb = models.CharField(_("verb"), max_length=20)
    subject = models.CharField(_("event or state"), max_length=100, blank=True, default="")
    context = models.JSONField(_("context"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    rows = models.TextField(editable=False)
    described = models.TextField(_("filter"), blank=True, default="")
    by = models.CharField(_("by"), max_length=255, blank=True, default="")
    by_pk = models.CharField(max_length=255, null=True, editable=False)  # noqa: DJ001 (no user)
    reason = models.CharField(_("reason"), max_length=500, blank=True, default="")
    started = models.DateTimeField(_("started"))
    matched = models.BigIntegerField(_("matched"), null=True, blank=True)
    done = models.BigIntegerField(_("done"), default=0)
    left_out = models.BigIntegerField(_("left out"), default=0)
    skipped = models.JSONField(_("left out because"), default=dict, blank=True)
    cursor = models.TextField(editable=False, blank=True, default="")
    end = models.TextField(editable=False, blank=True, default="")
    note = models.TextField(_("note"), blank=True, default="")

    state_lanes_by: ClassVar[str | None] = "model"
    state_target: ClassVar[Any] = None
    """The model whose rows these are for, of the classes that ``bulk_actions_of()`` returns."""

    class Meta:
        verbose_name = _("bulk action")
        verbose_name_plural = _("bulk actions")
        permissions = (("run_bulkaction", "Can start, stop and resume bulk actions"),)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.verb, self.subject, self.model, str(self.pk or ""))))


_offered: set[Any] = set()


def offer_bulk_actions(model: Any) -> None:
    """Let the runners of ``model`` look for bulk actions; those that start later than this."""
    _offered.add(declaring_model(model))


def bulk_actions_of(target: Any) -> Any:
    """The bulk actions for rows of ``target``, as a model of their own."""
    return companion_of(BulkAction, target)


def is_bulk_action(model: Any) -> bool:
    """Whether ``model`` is ``BulkAction``, or the bulk actions of one model."""
    return issubclass(model, BulkAction)


def offered_bulk_actions(target: Any) -> list[Any]:
    """The model of bulk actions for ``target``, in a list; an empty one if nothing offers any."""
    return [bulk_actions_of(target)] if declaring_model(target) in _offered else []
