"""What is wrong with the databases that rows live in, or could be better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import DatabaseError
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.diagnosis.mismatch import mismatch_of
from django_fsmworker.diagnosis.service import Service
from django_fsmworker.diagnosis.status import StateStatus, status_of
from django_fsmworker.graph.durations import span
from django_fsmworker.models.companions import is_companion
from django_fsmworker.store import Store, store_for
from django_fsmworker.store.statistics import Finding

# Seconds by which two clocks may differ, and for which a row may be due.
CLOCKS_APART = 2.0
DUE_FOR_LONG = 300.0


def examine(models: Sequence[Any], using: str) -> Iterator[Finding]:
    """All findings on the database ``using`` and on the tables of ``models`` there."""
    store, service = store_for(using), Service(using)
    yield from _settings(models, store)
    yield from _clock(store)
    yield from store.statistics.examine_database()
    for model in models:
        try:
            with store.inside():
                list(QuerySet(model, using=using).extra(where=["1 = 0"]))  # all columns, of no row
                findings = [*_table(model, store), *_rows(model, store, service)]
        except DatabaseError as error:
            findings = [_mismatch(model, store, error)]
        yield from findings


def _settings(models: Sequence[Any], store: Store) -> Iterator[Finding]:
    """What the system checks, and a runner at its start, say of the settings."""
    for sentence in store.shortcomings():
        yield Finding("shortcoming", sentence, "")
    runner = RunnerSettings.load()
    for message in store.check_settings(store.connection, models, runner):
        yield Finding(str(message.id), str(message.msg), str(message.hint or ""))


def _clock(store: Store) -> Iterator[Finding]:
    before = clock.now()
    there = store.now()
    took = clock.now() - before
    apart = (there - before - took / 2).total_seconds()
    # Nobody knows when, in the time that the answer took, the database looked at its clock.
    if abs(apart) - took.total_seconds() / 2 > CLOCKS_APART:
        yield Finding(
            "clocks_apart",
            f"The clock of the database {store.alias!r} is {span(apart)} "
            f"{'ahead of' if apart > 0 else 'behind'} this machine's: rows that it creates are due "
            f"{'later' if apart < 0 else 'earlier'} than meant.",
            "Let NTP set both.",
            evidence={"seconds": apart},
        )


def _table(model: Any, store: Store) -> Iterator[Finding]:
    for sentence in store.refusals(model):
        yield Finding("refused", sentence, "")
    for sentence, remedy in store.missing_indexes(model):
        yield Finding("missing_index", sentence, remedy)
    yield from store.statistics.examine_table(model)


def _mismatch(model: Any, store: Store, error: DatabaseError) -> Finding:
    return Finding(
        "refused",
        f"No runner with this code runs {model._meta.label}: {mismatch_of(model, store, error)}.",
        f"Run 'manage.py migrate --database {store.alias}', or give this role its rights there.",
    )


def _rows(model: Any, store: Store, service: Service) -> Iterator[Finding]:
    for each in status_of(model, store.alias):
        yield from _state(model, each, service)


def _state(model: Any, each: StateStatus, service: Service) -> Iterator[Finding]:
    if not each.declared:
        few = str(each.rows) == "1"
        rows = f"1 row of {each.model} is" if few else f"{each.rows} rows of {each.model} are"
        yield Finding(
            "unknown_state",
            f"{rows} in the state {each.state}, which its graph does not declare: no runner with "
            f"this code runs {'it' if few else 'them'}.",
            f"Ask 'manage.py stator plan {each.model}'.",
            evidence={"state": each.state, "rows": each.rows.number},
        )
    elif each.oldest_due is not None and each.oldest_due > DUE_FOR_LONG:
        if service.held_back(model, each.state).all_wait:
            return  # somebody, or a breaker, wants it so
        yield Finding(
            "not_run",
            f"A row of {each.model} in the state {each.state} has been due for "
            f"{span(each.oldest_due)}{_others(each)}: no runner serves the model, or too few do.",
            "Start 'manage.py runstator' for the models that they are for, or more of them."
            if is_companion(model)
            else f"Start 'manage.py runstator {each.model}', or more of them.",
            evidence={"state": each.state, "seconds": each.oldest_due, "due": each.due.number},
        )


def _others(each: StateStatus) -> str:
    return "" if str(each.due) == "1" else f", and {each.due} are due in all"
