"""Old records: which there are, how long each kind is kept, and how they are deleted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models.records import FailureRecord, StatorLog, TransitionRecord

KEEP_LOG = timedelta(days=30)
KEEP_RESOLVED = timedelta(days=7)

AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """Records of ``model`` are old by the moment in ``column``; None: they are kept for ever."""

    model: Any
    column: str
    kept: timedelta | None

    @property
    def name(self) -> str:
        """What people call them: ``failure records``."""
        return str(self.model._meta.verbose_name_plural)

    def old(self, alias: str, before: datetime) -> QuerySet[Any]:
        """The records in the database ``alias`` that are from before that moment."""
        rows: QuerySet[Any] = QuerySet(self.model, using=alias)
        return rows.filter(**{f"{self.column}__lt": before})


def kinds() -> list[Kind]:
    """Every kind of record, with the time that runners keep it."""
    kept = RunnerSettings.load().keep_transitions
    return [
        Kind(StatorLog, "until", KEEP_LOG),
        Kind(FailureRecord, "resolved", KEEP_RESOLVED),
        Kind(TransitionRecord, "at", timedelta(seconds=kept) if kept else None),
    ]


def purge(alias: str, kind: Kind, older: timedelta | None = None, *, dry: bool = False) -> int:
    """Delete the records of one kind that are older than that, or than they are kept; the number.

    They go in batches, each a transaction of its own. ``dry`` only counts.
    """
    older = kind.kept if older is None else older
    if older is None:
        return 0
    old, number = kind.old(alias, clock.now() - older), 0
    if dry:
        return old.count()
    while keys := list(old.order_by("pk").values_list("pk", flat=True)[:AT_ONCE]):
        number += old.filter(pk__in=keys).delete()[0]
    return number
