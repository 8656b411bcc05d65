"""What this package writes down about rows that fail and runners that work."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

LONGEST_KEY = 255


def row_key(pk: Any) -> str:
    """A primary key as records have it: its text, shortened and hashed where it is too long.

    That of a composite key is a JSON list: ``[7, "a"]``.
    """
    text = json.dumps(pk, ensure_ascii=False, default=str) if isinstance(pk, tuple) else str(pk)
    if len(text) <= LONGEST_KEY:
        return text
    digest = sha256(text.encode()).hexdigest()
    return f"{text[: LONGEST_KEY - len(digest) - 1]}…{digest}"


class FailureRecord(models.Model):
    """Why a row is failing: one record a row, in the row's own database.

    It stays when the row recovers, with the time in ``resolved``, until it is purged.
    """

    model = models.CharField(_("model"), max_length=200)
    row = models.CharField(_("row"), max_length=255, help_text=_("The row's primary key."))
    state = models.CharField(_("state"), max_length=100)
    error = models.CharField(_("error"), max_length=200, help_text=_("The exception's type."))
    message = models.TextField(_("message"), blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    count = models.PositiveIntegerField(_("count"), default=1)
    deaths = models.PositiveSmallIntegerField(
        _("deaths"),
        default=0,
        help_text=_("How often the process ended while it ran this row with nothing beside it."),
    )
    first_seen = models.DateTimeField(_("first seen"))
    last_seen = models.DateTimeField(_("last seen"), db_index=True)
    resolved = models.DateTimeField(_("resolved"), null=True, blank=True)
    worker = models.CharField(_("worker"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("failure record")
        verbose_name_plural = _("failure records")
        constraints = (
            models.UniqueConstraint(fields=["model", "row"], name="fsmworker_failure_row"),
        )
        permissions = (("view_traceback", "Can see tracebacks of failure records"),)

    def __str__(self) -> str:
        return f"{self.model} {self.row}: {self.error}"


class StatorLog(models.Model):
    """What one runner did with one model in one stretch of time."""

    model = models.CharField(_("model"), max_length=200)
    worker = models.CharField(_("worker"), max_length=200)
    since = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"), db_index=True)
    moved = models.PositiveIntegerField(_("moved"), default=0)
    stayed = models.PositiveIntegerField(_("stayed"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    timed_out = models.PositiveIntegerField(_("timed out"), default=0)
    interrupted = models.PositiveIntegerField(_("interrupted"), default=0)
    superseded = models.PositiveIntegerField(_("superseded"), default=0)
    expired = models.PositiveIntegerField(_("expired"), default=0)

    class Meta:
        verbose_name = _("stator log")
        verbose_name_plural = _("stator logs")

    def __str__(self) -> str:
        return f"{self.model} by {self.worker} until {self.until:%Y-%m-%d %H:%M:%S}"
