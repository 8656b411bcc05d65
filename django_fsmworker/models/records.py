"""The records of rows that fail and of what runners did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connections, models
from django.utils.translation import gettext_lazy as _

from django_fsmworker.models.keys import row_digest
from django_fsmworker.models.limits import Bucket, Pause, Permit


class RowDigestField(models.CharField):  # type: ignore[type-arg]
    """The digest of the column ``row``. A collation may take ``abc`` and ``ABC`` for equal keys."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"max_length": 64, "editable": False, **kwargs})

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        digest = row_digest(model_instance.row)
        setattr(model_instance, self.attname, digest)
        return digest


class FailureRecord(models.Model):
    """Why a row is failing, or parked: one record for each such row, in the row's own database.

    When the row recovers, the record stays, with the time in ``resolved``, until it is purged. If
    it fails again before that, the record begins anew, and knows how often it has failed before.
    """

    model = models.CharField(_("model"), max_length=200)
    row = models.CharField(_("row"), max_length=255, help_text=_("The row's primary key."))
    digest = RowDigestField()
    state = models.CharField(_("state"), max_length=100)
    error = models.CharField(_("error"), max_length=200, help_text=_("The exception's type."))
    message = models.TextField(_("message"), blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    count = models.PositiveIntegerField(_("count"), default=1)
    deaths = models.PositiveSmallIntegerField(
        _("deaths"),
        default=0,
        help_text=_("How often the process ended while it ran this row as a suspect."),
    )
    first_seen = models.DateTimeField(_("first seen"))
    last_seen = models.DateTimeField(_("last seen"), db_index=True)
    resolved = models.DateTimeField(_("resolved"), null=True, blank=True)
    went_to = models.CharField(
        _("went to"),
        max_length=100,
        blank=True,
        help_text=_("The state in which the last failure has put the row; it is not tried again."),
    )
    resolved_failures = models.PositiveIntegerField(
        _("resolved failures"),
        default=0,
        help_text=_("How many failures were resolved, the last ones included."),
    )
    last_resolved = models.DateTimeField(
        _("last resolved"), null=True, blank=True, help_text=_("When the row recovered last.")
    )
    worker = models.CharField(_("worker"), max_length=200, blank=True)
    parked = models.DateTimeField(
        _("parked"), null=True, blank=True, help_text=_("When somebody parked the row last.")
    )
    parked_by = models.CharField(_("parked by"), max_length=200, blank=True)
    parked_reason = models.TextField(_("parked because"), blank=True)

    class Meta:
        verbose_name = _("failure record")
        verbose_name_plural = _("failure records")
        constraints = (
            models.UniqueConstraint(fields=["model", "digest"], name="fsmworker_failure_row"),
        )
        # To ask whether any row of a model is failing, which a move of many rows does.
        indexes = (models.Index(fields=["model", "resolved"], name="fsmworker_failure_open"),)
        permissions = (
            ("view_traceback", "Can see tracebacks of failure records"),
            ("retry_row", "Can retry rows"),
            ("park_row", "Can park and unpark rows"),
            ("cancel_row", "Can cancel what runs on rows"),
            ("send_event", "Can send events to rows"),
            ("move_row", "Can move rows to declared states"),
            ("force_row", "Can force rows into states, and restart them"),
        )

    def __str__(self) -> str:
        return f"{self.model} {self.row}: {self.error}"


# What a record tells of a failure, the first one or the next.
FAILED = (
    "state",
    "error",
    "message",
    "traceback",
    "count",
    "deaths",
    "first_seen",
    "last_seen",
    "resolved",
    "went_to",
    "worker",
)


def upsert_failures(new: Sequence[FailureRecord], columns: Sequence[str], using: str) -> None:
    """Write records; of a row that has one by now, ``columns`` are written over."""
    # MySQL's upsert is about any unique key, and takes no names of one.
    targets = connections[using].features.supports_update_conflicts_with_target
    FailureRecord.objects.using(using).bulk_create(
        new,
        update_conflicts=True,
        unique_fields=["model", "digest"] if targets else None,
        update_fields=columns,
    )


class TransitionRecord(models.Model):
    """One transition of a row whose model has ``log_transitions``, in the row's own database.

    It is written with the transition, and once. Rows that are deleted leave theirs behind, until
    they are older than the setting ``keep_transitions``.
    """

    model = models.CharField(_("model"), max_length=200)
    row = models.CharField(_("row"), max_length=255, help_text=_("The row's primary key."))
    digest = models.BigIntegerField(editable=False)
    source = models.CharField(_("source"), max_length=255)
    target = models.CharField(_("target"), max_length=255)
    at = models.DateTimeField(_("at"))
    duration = models.DurationField(
        _("duration"), null=True, help_text=_("How long the row was in the source.")
    )
    cause = models.CharField(_("cause"), max_length=20)
    trigger = models.CharField(_("trigger"), max_length=100, blank=True)
    by = models.CharField(_("by"), max_length=200, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    worker = models.CharField(_("worker"), max_length=200, blank=True)
    attempt = models.SmallIntegerField(_("attempt"), null=True)

    class Meta:
        verbose_name = _("transition record")
        verbose_name_plural = _("transition records")
        indexes = (models.Index(fields=["digest", "model", "id"], name="fsmworker_transition_row"),)

    def __str__(self) -> str:
        return f"{self.model} {self.row}: {self.source} -> {self.target}"


class StatorLog(models.Model):
    """What one runner did with one model in one stretch of time."""

    model = models.CharField(_("model"), max_length=200)
    worker = models.CharField(_("worker"), max_length=200)
    since = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"), db_index=True)
    moved = models.PositiveIntegerField(_("moved"), default=0)
    stayed = models.PositiveIntegerField(_("stayed"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    overran = models.PositiveIntegerField(_("overran"), default=0)
    timed_out = models.PositiveIntegerField(_("timed out"), default=0)
    interrupted = models.PositiveIntegerField(_("interrupted"), default=0)
    superseded = models.PositiveIntegerField(_("superseded"), default=0)
    expired = models.PositiveIntegerField(_("expired"), default=0)
    due = models.IntegerField(
        _("due"), null=True, blank=True, help_text=_("Rows that waited at its end; 10000: or more.")
    )
    oldest_due = models.FloatField(
        _("oldest due"), null=True, blank=True, help_text=_("Seconds that the first had waited.")
    )

    class Meta:
        verbose_name = _("stator log")
        verbose_name_plural = _("stator logs")

    def __str__(self) -> str:
        return f"{self.model} by {self.worker} until {self.until:%Y-%m-%d %H:%M:%S}"

    @property
    def handled(self) -> int:
        """The number of attempts that ended and were written."""
        return self.moved + self.stayed + self.failed + self.overran + self.timed_out

    @classmethod
    def counted(cls) -> list[str]:
        """The names of the columns that are counts, in their order."""
        columns = cls._meta.concrete_fields
        return [each.name for each in columns if isinstance(each, models.PositiveIntegerField)]


RECORDS: tuple[type[models.Model], ...] = (
    FailureRecord,
    StatorLog,
    TransitionRecord,
    Pause,
    Permit,
    Bucket,
)
