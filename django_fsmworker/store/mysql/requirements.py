"""What MariaDB and MySQL may lack: said by Django's system checks, and before a runner starts."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models.indexes import keyed_indexes, state_indexes
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.store.local_times import check_zone, refused_zone
from django_fsmworker.store.tables import no_table

AT_LEAST = {"MariaDB": (10, 6), "MySQL": (8, 0, 13)}  # SKIP LOCKED; defaults that are expressions

# Modes in which the engine's statements mean something else: MariaDB's ways to be another database.
FOREIGN_MODES = {"ORACLE", "SIMULTANEOUS_ASSIGNMENT"}

SETTINGS = """
    SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), CURRENT_TIMESTAMP()), @@sql_mode,
        @@log_bin, @@binlog_format, @@character_set_connection"""
ENGINE = """
    SELECT ENGINE FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = COALESCE(%s, DATABASE()) AND TABLE_NAME = %s"""
INDEXED = """
    SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS
    WHERE TABLE_SCHEMA = COALESCE(%s, DATABASE()) AND TABLE_NAME = %s
    ORDER BY INDEX_NAME, SEQ_IN_INDEX"""


def check_settings(
    connection: Any, models: Sequence[Any], runner: RunnerSettings | None
) -> Iterator[CheckMessage]:
    """What the settings, and the graphs of ``models``, have to say; no database is looked at."""
    yield from check_zone(connection)
    for model in models:
        yield from _check_names(model)


def shortcomings(connection: Any) -> Iterator[str]:
    """What the settings of the server, or of this session, will cost."""
    with connection.cursor() as cursor:
        cursor.execute(SETTINGS)
        ahead, mode, logs, log_format, charset = cursor.fetchone()
    alias = connection.alias
    if abs(ahead) > 1:
        yield (
            f"Sessions of the database {alias!r} are {ahead} s ahead of UTC, and so is the due "
            f"time of a row that plain SQL inserts. Add 'init_command': "
            f"\"SET time_zone = '+00:00'\" to its OPTIONS."
        )
    if "STRICT" not in mode:
        yield (
            f"The database {alias!r} is not in strict mode: it changes values that do not fit. "
            f"Add 'init_command': \"SET sql_mode = 'STRICT_TRANS_TABLES'\" to its OPTIONS."
        )
    if int(logs) and log_format == "STATEMENT":
        yield (
            f"The database {alias!r} logs statements, so it refuses to write at READ COMMITTED. "
            f"Set its binlog_format to ROW or MIXED."
        )
    if charset != "utf8mb4":
        yield (
            f"Sessions of the database {alias!r} use the character set {charset}, which has no "
            f"place for every character that a failure's message may have. Take 'charset' out of "
            f"its OPTIONS, or set it to 'utf8mb4'."
        )


def refusals(connection: Any, model: Any) -> Iterator[str]:
    """Why rows of ``model`` cannot be run here."""
    alias, name = connection.alias, connection.display_name
    version, wanted = connection.mysql_version, AT_LEAST[connection.display_name]
    if version < wanted:
        yield (
            f"The database {alias!r} is {name} {_dotted(version)}, which is too old: "
            f"{_dotted(wanted)} is needed."
        )
    yield from refused_zone(connection)
    table = declaring_model(model)._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@sql_mode")
        modes = set(cursor.fetchone()[0].split(","))
        cursor.execute(ENGINE, _place(table))
        found = cursor.fetchone()
    if foreign := sorted(FOREIGN_MODES & modes):
        yield (
            f"Sessions of the database {alias!r} have {' and '.join(foreign)} in their sql_mode, "
            f"by which a runner's statements mean something else. Set another one by "
            f"'init_command' in its OPTIONS."
        )
    if found and found[0] is None:
        yield no_table(model)
    elif found and found[0] != "InnoDB":
        yield (
            f"The table of {model._meta.label} has the storage engine {found[0]}, which locks no "
            f"rows; run 'ALTER TABLE {connection.ops.quote_name(table)} ENGINE = InnoDB'."
        )


def missing_indexes(connection: Any, model: Any) -> Iterator[tuple[str, str]]:
    """Which of a runner's indexes are not there: what to say, and how to add it.

    Django's migrations make them, whole where other databases have partial ones. They are missing
    from a table that something else has made.
    """
    owner, quote = declaring_model(model), connection.ops.quote_name
    table, app = owner._meta.db_table, owner._meta.app_label
    found: defaultdict[str, list[str]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(INDEXED, _place(table))
        for index_name, column in cursor.fetchall():
            found[index_name].append(column)
    present = list(found.values())
    field = owner._meta.get_field("state")
    for index in [*state_indexes(table, field), *keyed_indexes(owner._meta, field)]:
        columns = [owner._meta.get_field(name).column for name in index.fields]
        if not any(each[: len(columns)] == columns for each in present):
            yield (
                f"{owner._meta.label} has no index on ({', '.join(columns)}) in the database "
                f"{connection.alias!r}: a runner reads the whole table instead.",
                f"Add AddStateIndexes({owner._meta.model_name!r}) to a migration of {app!r} "
                f"(from django_fsmworker.operations), or run: CREATE INDEX {quote(index.name)} ON "
                f"{quote(table)} ({', '.join(map(quote, columns))}).",
            )


def _check_names(model: Any) -> Iterator[CheckMessage]:
    """Collations take capital and small letters, with accents and without, for equal."""
    alike = defaultdict(list)
    for name in model.state_graph.states:
        parts = unicodedata.normalize("NFKD", name)
        alike["".join(each for each in parts if not unicodedata.combining(each)).casefold()].append(
            name
        )
    for names in alike.values():
        if len(names) > 1:
            yield Error(
                f"MariaDB and MySQL take the states {' and '.join(names)} of {model._meta.label} "
                f"for the same one.",
                hint="Give them names that differ by more than case and accents.",
                obj=model,
                id="fsmworker.E014",
            )


def _place(table: str) -> list[str | None]:
    """The database of a table, None for the connection's own, and its name there.

    A project names both in one: ``db_table = "`database`.`table`"``.
    """
    database, _, name = table.strip("`").rpartition("`.`")
    return [database or None, name]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
