"""What SQLite may lack: said by Django's system checks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Warning

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.store.local_times import check_zone

AT_LEAST = (3, 38)


def check_settings(
    connection: Any, models: Sequence[Any], runner: RunnerSettings | None
) -> Iterator[CheckMessage]:
    """What its version and its options have to say, and atomic states of ``models``."""
    alias, database = connection.alias, connection.settings_dict
    if sqlite3.sqlite_version_info < AT_LEAST:
        wanted = ".".join(map(str, AT_LEAST))
        yield Error(
            f"SQLite {sqlite3.sqlite_version} is too old: {wanted} is needed.",
            hint="Use a Python built with a newer SQLite, or PostgreSQL.",
            id="fsmworker.E010",
        )
    yield from check_zone(connection)
    missing = _missing_options(database.get("OPTIONS", {}))
    if missing:
        yield Warning(
            f"The SQLite database {alias!r} lacks options that several threads need: "
            f"{', '.join(missing)}.",
            hint=f"Set DATABASES[{alias!r}]['OPTIONS'] = {{'transaction_mode': 'IMMEDIATE', "
            f"'timeout': 20, 'init_command': 'PRAGMA journal_mode=WAL; "
            f"PRAGMA synchronous=NORMAL'}}.",
            id="fsmworker.W001",
        )
    if runner is not None:
        yield from _check_atomic_states(models, runner)


def _missing_options(options: dict[str, Any]) -> Sequence[str]:
    wal = "journal_mode=wal" in str(options.get("init_command", "")).lower().replace(" ", "")
    present = {
        "transaction_mode": str(options.get("transaction_mode", "")).upper() == "IMMEDIATE",
        "timeout": float(options.get("timeout", 5)) >= 10,
        "init_command": wal,
    }
    return [name for name, is_set in present.items() if not is_set]


def _check_atomic_states(models: Sequence[Any], runner: RunnerSettings) -> Iterator[CheckMessage]:
    states = [(model, state) for model in models for state in model.state_graph.states.values()]
    for model, state in states:
        deadline = state.deadline or runner.deadline
        if state.atomic and deadline >= runner.lease:
            yield Warning(
                f"The atomic check of {state!r} may keep SQLite's only write lock for "
                f"{deadline:g} s, but a lease lasts {runner.lease:g} s.",
                hint="Give the state a deadline shorter than the lease.",
                obj=model,
                id="fsmworker.W003",
            )
