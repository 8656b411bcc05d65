"""What the fleet knows in common of limits: permits, buckets of tokens, pauses.

All are small tables in the database of the rows, written by runners, and by whoever pauses. A lane
is named by the label of its model and by its state, a key by a digest: see ``key_digest()``.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_fsmworker.models.keys import row_digest, row_key


class Whole(Enum):
    """What stands for a key where a limit or a pause is about a whole lane."""

    LANE = "lane"


WHOLE_LANE: Final = Whole.LANE


def stored_key(field: Any, key: Any) -> Any:
    """``key`` as rows have it that were read: of a column with three places 1.5 is 1.500.

    A related row stands for its key, and a text for what it means in the column.

    :raises ValidationError: the column takes no such value.
    """
    if key is None:
        return None
    while field.remote_field:
        field = field.target_field
        if isinstance(key, field.model):
            key = getattr(key, field.attname)
    if isinstance(key, models.Model):
        raise ValidationError(f"a row of {key._meta.label} is no value of {field.name}.")
    key = field.to_python(key)
    if isinstance(key, datetime) and settings.USE_TZ and timezone.is_naive(key):
        return timezone.make_aware(key)
    if isinstance(key, Decimal) and field.decimal_places is not None:
        with suppress(InvalidOperation):  # it has more digits than any row
            return round(key, field.decimal_places)
    return key


def key_text(key: Any) -> str:
    """A key as people read it; nothing for a whole lane."""
    if key is WHOLE_LANE:
        return ""
    return "NULL" if key is None else _text_of(key) or '""'


def key_digest(key: Any) -> str:
    """What a key is found by, whatever a collation takes for equal; nothing for a whole lane."""
    if key is WHOLE_LANE:
        return ""
    return row_digest("\0" if key is None else _text_of(key))


def _text_of(key: Any) -> str:
    if isinstance(key, datetime) and timezone.is_aware(key):
        key = key.astimezone(UTC)  # whichever zone it was read in
    return row_key(key)


class Pause(models.Model):
    """Rows that are not run for a time: of one key, of one state, of one model, or all.

    It holds until ``until`` by the database's clock (without it, until it is lifted). That of a
    breaker stays when its time is over: then one row is tried before the others go on.
    """

    class Kind(models.TextChoices):
        BY_HAND = "by_hand", _("by hand")
        CHECK = "check", _("asked for by a check")
        BREAKER = "breaker", _("breaker")

    model = models.CharField(
        _("model"), max_length=200, blank=True, help_text=_("Every model, if it is empty.")
    )
    state = models.CharField(
        _("state"), max_length=100, blank=True, help_text=_("Every state, if it is empty.")
    )
    key = models.CharField(
        _("key"), max_length=255, blank=True, help_text=_("Every key, if it is empty.")
    )
    digest = models.CharField(max_length=64, blank=True, editable=False)
    kind = models.CharField(_("kind"), max_length=20, choices=Kind.choices, default=Kind.BY_HAND)
    by = models.CharField(_("by"), max_length=200, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    since = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"), null=True, blank=True)
    trial = models.DateTimeField(_("trial until"), null=True, editable=False)
    lifted = models.DateTimeField(_("lifted"), null=True, blank=True, db_index=True)
    lifted_by = models.CharField(_("lifted by"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("pause")
        verbose_name_plural = _("pauses")

    def __str__(self) -> str:
        return ".".join(filter(None, [self.model or "Everything", self.state, self.key]))


class Permit(models.Model):
    """The right to run one row of a lane, or of a key of it, under a limit of the whole fleet.

    It is free once its lease has run out, by the database's clock.
    """

    model = models.CharField(_("model"), max_length=200)
    state = models.CharField(_("state"), max_length=100)
    key = models.CharField(_("key"), max_length=255, blank=True)
    digest = models.CharField(max_length=64, blank=True, editable=False)
    slot = models.PositiveSmallIntegerField(_("slot"))
    token = models.BigIntegerField(_("token"), null=True)
    lease = models.DateTimeField(_("lease"))

    class Meta:
        verbose_name = _("permit")
        verbose_name_plural = _("permits")
        constraints = (
            models.UniqueConstraint(
                fields=["model", "state", "digest", "slot"], name="fsmworker_permit_slot"
            ),
        )

    def __str__(self) -> str:
        return f"{self.model}.{self.state} {self.key} {self.slot}".replace("  ", " ")


class Bucket(models.Model):
    """The tokens of one rate: each attempt takes one, and they come back at that rate.

    ``full_at`` is when all of them are there, by the database's clock: a token that is taken puts
    it off by the time from one attempt to the next.
    """

    model = models.CharField(_("model"), max_length=200)
    state = models.CharField(_("state"), max_length=100)
    key = models.CharField(_("key"), max_length=255, blank=True)
    digest = models.CharField(max_length=64, blank=True, editable=False)
    full_at = models.DateTimeField(_("full at"))

    class Meta:
        verbose_name = _("bucket")
        verbose_name_plural = _("buckets")
        constraints = (
            models.UniqueConstraint(
                fields=["model", "state", "digest"], name="fsmworker_bucket_key"
            ),
        )

    def __str__(self) -> str:
        return f"{self.model}.{self.state} {self.key}".rstrip()
