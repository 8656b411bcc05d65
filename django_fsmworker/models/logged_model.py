"""What a model says of its logs, and has of its transition log."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models, router

from django_fsmworker.models.keys import declaring_model, key_of, log_digest, row_key
from django_fsmworker.models.records import TransitionRecord


class LoggedModel(models.Model):
    """The part of ``StatorModel`` with the log of transitions."""

    state_tenant: ClassVar[str | None] = None
    """A column of the model's own table, whose value lines of the log have as ``tenant``."""

    log_transitions: ClassVar[bool] = False
    """Whether each transition is logged, for ``state_log``; set it beside the ``StateField``."""

    class Meta:
        abstract = True

    @property
    def state_log(self) -> models.QuerySet[TransitionRecord]:
        """The row's logged transitions, in their order; a queryset on the row's own database.

        It is empty unless the model has ``log_transitions = True``. For async code it has the
        methods of any queryset: ``[each async for each in row.state_log]``.
        """
        model: Any = type(self)
        using = self._state.db or router.db_for_read(model, instance=self)
        entries: models.QuerySet[TransitionRecord] = models.QuerySet(TransitionRecord, using=using)
        label, name = declaring_model(model)._meta.label, row_key(key_of(self))
        return entries.filter(digest=log_digest(name), model=label, row=name).order_by("pk")
