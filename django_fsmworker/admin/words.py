"""Durations and moments as people read them."""

from __future__ import annotations

from datetime import datetime

from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

UNITS = (
    (86_400, _("%(count)d d")),
    (3_600, _("%(count)d h")),
    (60, _("%(count)d min")),
    (1, _("%(count)d s")),
)


def duration(seconds: float) -> str:
    """``seconds`` in the largest unit of which there are two: ``90 s``, ``5 min``, ``47 h``."""
    whole = max(round(seconds), 0)
    size, words = next((unit for unit in UNITS if whole >= 2 * unit[0]), UNITS[-1])
    return str(words) % {"count": round(whole / size)}


def moment(when: datetime) -> str:
    """``when`` in the time zone and the format of whoever is looking."""
    return str(localize(localtime(when)))


def at(words: str, when: datetime) -> SafeString:
    """``words``, with the moment that they stand for where the pointer rests on them."""
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', when.isoformat(), moment(when), words
    )
