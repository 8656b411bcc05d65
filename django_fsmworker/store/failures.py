"""Failure records: why a row is failing, written into the row's own database."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.db.models import F, QuerySet

from django_fsmworker import clock
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.keys import (
    declaring_model,
    portions,
    present_rows,
    records_of,
    row_key,
    with_keys,
)
from django_fsmworker.models.records import FAILED, FailureRecord, upsert_failures
from django_fsmworker.store.errors import is_contention, is_outage, tells_of

KEEP_UNKNOWN = timedelta(days=7)
MOST_LISTED = 500
LONGEST_MESSAGE, LONGEST_TRACEBACK = 10_000, 20_000


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in one attempt.

    ``noted``: it is on record already and counts once. ``lost``: the database could serve nobody;
    ``locked``: it said "not now", which is no excuse unless it does so for long. ``exception`` is
    what was raised, until the failure has been told of.
    """

    error: str
    message: str
    traceback: str = ""
    noted: bool = False
    lost: bool = False
    locked: bool = False
    exception: BaseException | None = field(default=None, compare=False, repr=False)

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
            exception=error,
        )

    @property
    def sentence(self) -> str:
        """What went wrong, in one line; the rest of the message may show the row's data."""
        return f"{self.error}: {self.message.partition(chr(10))[0]}"

    def told(self) -> None:
        """Let go of the exception: its traceback holds frames, and one of them this failure."""
        object.__setattr__(self, "exception", None)


def dropped(target: str) -> Failure:
    """What is put on record of a move to ``target`` that the database drops without an error."""
    return Failure(
        "django_fsmworker.exceptions.WriteDropped",
        f"The database dropped the write to the state {target} without an error: a trigger or a "
        f"rule of the table keeps it from the row.",
    )


Deaths = dict[Any, int]


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:
        return f"(its text cannot be had: {type(another).__name__})"


def _storable(text: str) -> str:
    """PostgreSQL has no NUL in text, and neither database takes lone surrogates."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def record(
    alias: str,
    model: Any,
    failed: Sequence[tuple[Any, str, Failure]],
    worker: str,
    went_to: Mapping[Any, str] | None = None,
) -> None:
    """Note a failure for each ``(pk, state, failure)``; a row that recovered starts a new count.

    ``went_to`` names the states of those that it has moved on, as by ``fails_to``.
    """
    now = clock.now()
    known = {entry.row: entry for entry in _records(alias, model, [pk for pk, _, _ in failed])}
    new: list[FailureRecord] = []
    seen: list[FailureRecord] = []
    for pk, state, failure in sorted(failed, key=lambda each: str(each[0])):
        entry = known.get(row_key(pk)) or FailureRecord(
            model=declaring_model(model)._meta.label, row=row_key(pk), first_seen=now, count=0
        )
        if entry.resolved:
            entry.first_seen, entry.count, entry.deaths, entry.resolved = now, 0, 0, None
        entry.count += not failure.noted or not entry.count
        entry.state, entry.last_seen, entry.worker = state, now, worker[:200]
        entry.went_to = went_to.get(pk, "") if went_to else ""
        entry.error, entry.message, entry.traceback = (
            failure.error,
            failure.message,
            failure.traceback,
        )
        (seen if entry.pk else new).append(entry)
    # An abandoned check may be noted and settled at the same moment.
    upsert_failures(new, FAILED, alias)
    FailureRecord.objects.using(alias).bulk_update(seen, FAILED)


def deaths_of(alias: str, model: Any, keys: Iterable[Any]) -> dict[Any, int]:
    """How many processes are known to have ended while they ran these rows; without those of 0."""
    by_row = {row_key(key): key for key in keys}
    noted = _records(alias, model, by_row.values()).filter(resolved=None, deaths__gt=0)
    return {by_row[row]: deaths for row, deaths in noted.values_list("row", "deaths")}


def count_deaths(alias: str, model: Any, state: str, keys: Sequence[Any], worker: str) -> Deaths:
    """Note, before suspects are run, that this process may die of them.

    Returns how many processes have died so before, by key; if this one lives, ``resolve_failures``
    or ``survived`` takes the note back.
    """
    record(alias, model, [(key, state, _LAPSED) for key in keys], worker)
    deaths = deaths_of(alias, model, keys)
    _records(alias, model, keys).update(deaths=F("deaths") + 1)
    return deaths


def survived(alias: str, model: Any, keys: Iterable[Any]) -> None:
    """Note that rows failed, but no process died of them."""
    _records(alias, model, keys).update(deaths=0)


def take_back_death(alias: str, model: Any, keys: Iterable[Any]) -> None:
    """Take back the note of suspects that were interrupted while this process lives on."""
    _records(alias, model, keys).filter(deaths__gt=0).update(deaths=F("deaths") - 1)


def outlived(alias: str, model: Any, keys: Sequence[Any]) -> None:
    """Others have taken over these suspects, and this process lives.

    Where a row went on unharmed, whoever wrote that may not have seen the note: it is resolved.
    """
    take_back_death(alias, model, keys)
    rows: QuerySet[Any] = QuerySet(model, using=alias)
    unharmed = rows.filter(with_keys(model, list(keys)), state_failures=0).values_list(
        "pk", flat=True
    )
    notes = _records(alias, model, unharmed).filter(resolved=None, deaths=0, error=_LAPSED.error)
    notes.update(resolved=clock.now())


def forget(alias: str, model: Any, keys: Iterable[Any]) -> None:
    """Drop the records of rows that are deleted."""
    _records(alias, model, keys).delete()


def _records(alias: str, model: Any, keys: Iterable[Any]) -> QuerySet[FailureRecord]:
    return FailureRecord.objects.using(alias).filter(**records_of(model, keys))


def drop_orphans(alias: str, after: int, most: int) -> int | None:
    """Drop the records of rows that are gone, among the next ``most`` records after that id.

    Rows are deleted past a runner: by code, by a cascade, by SQL. Returns the id to go on after;
    None where all have been looked at.
    """
    records: QuerySet[FailureRecord] = QuerySet(FailureRecord, using=alias)
    found = list(
        records.filter(pk__gt=after).order_by("pk").values_list("pk", "model", "row")[:most]
    )
    by_label: dict[str, dict[str, int]] = {}
    for pk, label, row in found:
        by_label.setdefault(label, {})[row] = pk
    models = {model._meta.label: model for model in stator_models(alias)}
    orphans: list[int] = []
    for label, rows in by_label.items():
        if label in models:
            present = present_rows(models[label], list(rows), alias)
            orphans += [pk for row, pk in rows.items() if row not in present]
        elif not _is_installed(label):
            # Renamed or removed; or another project's, which shares the database.
            old = records.filter(pk__in=rows.values(), last_seen__lt=clock.now() - KEEP_UNKNOWN)
            orphans += old.values_list("pk", flat=True)
    for some in portions(orphans, MOST_LISTED):
        records.filter(pk__in=some).delete()
    return found[-1][0] if len(found) == most else None


def _is_installed(label: str) -> bool:
    try:
        apps.get_model(label)
    except LookupError:
        return False
    return True


_LAPSED = Failure(
    "django_fsmworker.exceptions.ProcessDied",
    "The process that held this row ended, or lost the database for longer than its lease.",
)
