"""Failure records: why a row is failing, written into the row's own database."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import F

from django_fsmworker import clock
from django_fsmworker.models.records import FailureRecord, row_key
from django_fsmworker.store.errors import is_contention, is_outage, tells_of

LONGEST_MESSAGE, LONGEST_TRACEBACK = 10_000, 20_000


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in one attempt.

    ``noted``: it is on record already and counts once. ``lost``: the database could serve nobody;
    ``locked``: it said "not now", which is no excuse unless it does so for long.
    """

    error: str
    message: str
    traceback: str = ""
    noted: bool = False
    lost: bool = False
    locked: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an exception tells of; the end of a long traceback is what counts."""
        kind = type(error)
        name = (
            kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        )
        text = "".join(traceback.format_exception(error))
        return cls(
            name[-200:],
            _storable(_text_of(error))[:LONGEST_MESSAGE],
            _storable(text)[-LONGEST_TRACEBACK:],
            lost=tells_of(error, is_outage),
            locked=tells_of(error, is_contention),
        )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:
        return f"(its text cannot be had: {type(another).__name__})"


def _storable(text: str) -> str:
    """PostgreSQL has no NUL in text, and neither database takes lone surrogates."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def record(alias: str, model: Any, failed: Sequence[tuple[Any, str, Failure]], worker: str) -> None:
    """Note a failure for each ``(pk, state, failure)``; a row that recovered starts a new count."""
    now = clock.now()
    known = _records(alias, model, [pk for pk, _, _ in failed])
    new: list[FailureRecord] = []
    seen: list[FailureRecord] = []
    for pk, state, failure in sorted(failed, key=lambda each: str(each[0])):
        entry = known.get(row_key(pk)) or FailureRecord(
            model=model._meta.label, row=row_key(pk), first_seen=now, count=0
        )
        if entry.resolved:
            entry.first_seen, entry.count, entry.deaths, entry.resolved = now, 0, 0, None
        entry.count += not failure.noted or not entry.count
        entry.state, entry.last_seen, entry.worker = state, now, worker[:200]
        entry.error, entry.message, entry.traceback = (
            failure.error,
            failure.message,
            failure.traceback,
        )
        (seen if entry.pk else new).append(entry)
    # An upsert: an abandoned check may be noted and settled at the same moment. (MySQL's is about
    # any unique key and takes no names of one.)
    targets = connections[alias].features.supports_update_conflicts_with_target
    FailureRecord.objects.using(alias).bulk_create(
        new,
        update_conflicts=True,
        unique_fields=["model", "row"] if targets else None,
        update_fields=_WRITTEN,
    )
    FailureRecord.objects.using(alias).bulk_update(seen, _WRITTEN)


def count_death(alias: str, row: Any, worker: str) -> int:
    """Note, before a suspect is run alone, that this process may die of it.

    Returns how many processes have died so before; if this one lives, ``resolve_failures``
    or ``survived`` takes the note back.
    """
    model, state = type(row), str(row.state)
    record(alias, model, [(row.pk, state, _LAPSED)], worker)
    entry = FailureRecord.objects.using(alias).get(model=model._meta.label, row=row_key(row.pk))
    deaths = entry.deaths
    entry.deaths = deaths + 1
    entry.save(using=alias, update_fields=["deaths"])
    return deaths


def survived(alias: str, model: Any, keys: Iterable[Any]) -> None:
    """These rows failed, but no process died of them."""
    FailureRecord.objects.using(alias).filter(
        model=model._meta.label, row__in=[row_key(key) for key in keys]
    ).update(deaths=0)


def take_back_death(alias: str, model: Any, keys: Iterable[Any]) -> None:
    """These suspects were interrupted, and this process lives: no death after all."""
    FailureRecord.objects.using(alias).filter(
        model=model._meta.label, row__in=[row_key(key) for key in keys], deaths__gt=0
    ).update(deaths=F("deaths") - 1)


def forget(alias: str, model: Any, keys: Iterable[Any]) -> None:
    """Drop the records of rows that are deleted."""
    FailureRecord.objects.using(alias).filter(
        model=model._meta.label, row__in=[row_key(key) for key in keys]
    ).delete()


def _records(alias: str, model: Any, keys: Sequence[Any]) -> dict[str, FailureRecord]:
    found = FailureRecord.objects.using(alias).filter(
        model=model._meta.label, row__in=[row_key(key) for key in keys]
    )
    return {entry.row: entry for entry in found}


_LAPSED = Failure(
    "django_fsmworker.exceptions.ProcessDied",
    "The process that held this row ended, or lost the database for longer than its lease.",
)
_WRITTEN = [
    "state",
    "error",
    "message",
    "traceback",
    "count",
    "deaths",
    "first_seen",
    "last_seen",
    "resolved",
    "worker",
]
