"""The transition log, written in the transaction of the moves that it is about.

On PostgreSQL the statement that settles rows has its own way, in ``postgresql.sql``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet, Value

from django_fsmworker.graph import State
from django_fsmworker.models.engine import LoggedRow
from django_fsmworker.models.fields import MOST_FAILURES, as_loaded
from django_fsmworker.models.functions import DatabaseNow, known_dialect
from django_fsmworker.models.keys import declaring_model, log_digest, portions, row_key
from django_fsmworker.models.records import TransitionRecord
from django_fsmworker.models.transition_log import (
    LONGEST_NAME,
    LONGEST_REASON,
    SHARED,
    LoggedMove,
    storable,
)
from django_fsmworker.store.fence import Outcome

MOST_AT_ONCE = 1000

FIELDS: dict[str, Any] = {each.name: each for each in TransitionRecord._meta.concrete_fields}


def settled(outcome: Outcome, worker: str) -> LoggedMove:
    """The entry of an outcome that has moved its row."""
    return LoggedMove(
        outcome.pk,
        outcome.target,
        outcome.cause,
        outcome.source,
        as_loaded(outcome.row, "state_changed"),
        reason=reason_of(outcome),
        worker=worker[:LONGEST_NAME],
        attempt=attempt_of(outcome),
    )


def reason_of(outcome: Outcome) -> str:
    """What it failed with, if it did."""
    failure = outcome.failure
    return "" if failure is None else storable(failure.sentence, LONGEST_REASON)


def attempt_of(outcome: Outcome) -> int | None:
    """How many attempts in a row it took, this one included; None where no check has decided."""
    if outcome.cause == "check":
        failures: int = outcome.row.__dict__["state_failures"]
        return failures + 1 if failures < MOST_FAILURES else MOST_FAILURES
    return min(outcome.attempt, MOST_FAILURES) or None


def guarded(key: Any, source: str, entered: datetime, target: State, worker: str) -> LoggedMove:
    """The entry of a row that a sweep moves."""
    return LoggedMove(key, target.name, "guard", source, entered, worker=worker[:LONGEST_NAME])


def log_move(row: QuerySet[Any], move: LoggedMove) -> bool:
    """Log that the one row of ``row`` is moved, and lock it; False if there is no such row.

    The state that the row is in, and since when, is read from it by the same statement. It writes
    first, as a transaction on SQLite has to, which others must not overtake.
    """
    connection = connections[row.db]
    features: Any = connection.features
    name = row_key(move.pk)
    known = dict(zip(SHARED, move.shared, strict=True)) | {
        "model": row.model._meta.label,
        "row": name,
        "digest": log_digest(name),
    }
    del known["attempt"]  # there is none, and NULL has no type
    terms = [Value(value, output_field=FIELDS[column]) for column, value in known.items()]
    since = ExpressionWrapper(DatabaseNow() - F("state_changed"), DurationField())
    read = row.select_for_update(no_key=features.has_select_for_no_key_update)
    found = read.values_list(*terms, F("state"), DatabaseNow(), since)
    select, params = found.query.get_compiler(row.db).as_sql()
    into = _into(connection, [*known, "source", "at", "duration"])
    with connection.cursor() as cursor:
        cursor.execute(f"{into} {select}", params)
        return bool(cursor.rowcount)


def log_moves(alias: str, model: Any, moves: Sequence[LoggedMove]) -> None:
    """Log moves of rows of ``model``, which the caller has locked."""
    connection: Any = connections[alias]
    dialect, label = known_dialect(connection), declaring_model(model)._meta.label
    into = _into(connection, ["row", "digest", "source", "duration", "model", *SHARED, "at"])
    alike: dict[tuple[Any, ...], list[LoggedRow]] = {}
    for move in moves:
        name = row_key(move.pk)
        row = (name, log_digest(name), move.source, move.entered)
        alike.setdefault(move.shared, []).append(row)
    now, now_params = dialect.now(connection)
    shared_terms = ", ".join(["%s"] * (1 + len(SHARED)))
    for shared, rows in alike.items():
        for some in portions(rows, MOST_AT_ONCE):
            listed, params = dialect.logged(connection, some)
            with connection.cursor() as cursor:
                cursor.execute(
                    f"{into} SELECT row_text, digest, source, duration, {shared_terms}, {now} "
                    f"FROM {listed}",
                    [label, *shared, *now_params, *params],
                )


def _into(connection: Any, names: Sequence[str]) -> str:
    quote = connection.ops.quote_name
    columns = ", ".join(quote(FIELDS[name].column) for name in names)
    return f"INSERT INTO {quote(TransitionRecord._meta.db_table)} ({columns})"


def drop_old(alias: str, before: datetime, after: int, most: int) -> int | None:
    """Drop entries made before that moment, among the next ``most`` after that id.

    Returns the id to go on after; None where none of them is old: ids are given in the order in
    which entries are made, more or less.
    """
    entries: QuerySet[TransitionRecord] = QuerySet(TransitionRecord, using=alias)
    found = list(entries.filter(pk__gt=after).order_by("pk").values_list("pk", "at")[:most])
    old = [pk for pk, at in found if at < before]
    if old:
        entries.filter(pk__in=old).delete()
    return found[-1][0] if old and len(found) == most else None
