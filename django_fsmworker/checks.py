"""System checks. Each id has a section in docs/reference/checks.md."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, Warning
from django.db import connections, router

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.graph import StateGraph
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.fields import StateField
from django_fsmworker.models.records import FailureRecord, StatorLog
from django_fsmworker.models.stator_model import StatorModel
from django_fsmworker.mysql_checks import check_mysql, check_tables
from django_fsmworker.store import NAMES, STORES
from django_fsmworker.store.guards import fault_of
from django_fsmworker.store.sqlite import AT_LEAST

CONNECTIONS_BESIDE_THREADS = 4

# Kinds of fields whose values are not told apart in a list of keys, or in a set.
UNMATCHED = {"ArrayField", "BinaryField", "HStoreField", "JSONField"}


def register() -> None:
    """Called when the application is ready."""
    checks.register(check_models, Tags.models)
    checks.register(check_settings, Tags.compatibility)
    checks.register(check_databases, Tags.compatibility)
    checks.register(check_tables, Tags.database)


def check_models(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What a model with a life has to look like."""
    found: list[CheckMessage] = []
    for model in apps.get_models():
        if issubclass(model, StatorModel) and not model._meta.proxy:
            found += _check_model(model)
    return found


def _check_model(model: Any) -> Iterator[CheckMessage]:
    meta = model._meta
    fields = [field for field in meta.fields if isinstance(field, StateField)]
    if not fields:
        yield Error(
            f"{meta.label} has no state field.",
            hint="Declare 'state = StateField(YourGraph)' on it.",
            obj=model,
            id="fsmworker.E001",
        )
        return
    field = fields[0]
    if field.name != "state" or len(fields) > 1:
        yield Error(
            f"The state field of {meta.label} has to be a single one named 'state'.",
            hint="Name it 'state'; a row has one life.",
            obj=model,
            id="fsmworker.E002",
        )
        return
    if field.graph is None:
        yield Error(
            f"{meta.label}.state has no graph.",
            hint="Declare 'state = StateField(YourGraph)'.",
            obj=model,
            id="fsmworker.E003",
        )
        return
    if field.model is not model:
        return  # A multi-table child: its parent is checked.
    yield from _check_table(model)
    yield from _check_guards(model, field.graph)
    for name in field.graph.states:
        if len(name) > (field.max_length or 0):
            yield Error(
                f"The state {name!r} of {meta.label} is longer than max_length={field.max_length}.",
                hint=f"Shorten it, or declare StateField(..., max_length={len(name)}).",
                obj=model,
                id="fsmworker.E006",
            )


def _check_table(model: Any) -> Iterator[CheckMessage]:
    """The columns of one life are in one table, whose key tells rows apart."""
    meta = model._meta
    owners = {each.name: meta.get_field(each.name).model for each in StatorModel._meta.fields}
    elsewhere = [name for name, owner in owners.items() if owner is not model]
    if elsewhere:
        yield Error(
            f"{meta.label} has the state in its own table, but {elsewhere[0]} in that of "
            f"{owners[elsewhere[0]]._meta.label}.",
            hint="Make the parent abstract, or declare 'state = StateField(YourGraph)' on it.",
            obj=model,
            id="fsmworker.E004",
        )
    for field in getattr(meta.pk, "fields", [meta.pk]):
        kind = _value_field(field).get_internal_type()
        if kind in UNMATCHED:
            yield Error(
                f"The primary key of {meta.label} has a {kind}, by which a runner cannot find a "
                f"row again.",
                hint="Give it another primary key, and a UniqueConstraint on what is now the key.",
                obj=model,
                id="fsmworker.E005",
            )


def _check_guards(model: Any, graph: type[StateGraph]) -> Iterator[CheckMessage]:
    """What only the model can tell: whether it has the fields that a condition names."""
    alias = router.db_for_write(model)
    for edge in [edge for state in graph.states.values() for edge in state.guards]:
        fault = fault_of(edge, model, alias)
        if fault is not None:
            yield Error(
                f"The guard from {edge.source!r} to {edge.target} cannot be asked about rows of "
                f"{model._meta.label}: {fault}",
                hint="Give when= a condition that filter() of the model takes, without aggregates; "
                "count in a Subquery.",
                obj=model,
                id="fsmworker.E011",
            )


def _value_field(field: Any) -> Any:
    """The field that a foreign key has its values from, or ``field`` itself."""
    return _value_field(field.target_field) if field.remote_field else field


def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What the project's settings have to say."""
    found: list[CheckMessage] = []
    if not settings.USE_TZ:
        found.append(
            Error(
                "USE_TZ is False, so due times would be ambiguous.",
                hint="Set USE_TZ = True.",
                id="fsmworker.E007",
            )
        )
    try:
        RunnerSettings.load()
    except ConfigurationError as error:
        found.append(Error(str(error), hint="Correct the setting.", id="fsmworker.E008"))
    return found


def check_databases(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What the databases that hold such models have to offer; looks at settings only."""
    found: list[CheckMessage] = []
    for alias in sorted({router.db_for_write(model) for model in stator_models()}):
        connection = connections[alias]
        if connection.vendor not in STORES:
            found.append(
                Error(
                    f"The database {alias!r} is {connection.vendor}; rows with a state graph can "
                    f"be run on {NAMES}.",
                    hint="Route these models to such a database.",
                    id="fsmworker.E009",
                )
            )
            continue
        found += _check_records(alias)
        if connection.vendor == "sqlite":
            found += _check_sqlite(alias, connection.settings_dict)
            found += _check_atomic_states(alias)
        elif connection.vendor == "mysql":
            here = [model for model in stator_models() if router.db_for_write(model) == alias]
            found += check_mysql(alias, connection.settings_dict, here)
        else:
            found += _check_pool(alias, connection.settings_dict)
    return found


def _check_records(alias: str) -> Iterator[CheckMessage]:
    """Failures and summaries are written beside the rows that they are about."""
    records = (FailureRecord, StatorLog)
    kept_out = [each for each in records if not router.allow_migrate_model(alias, each)]
    here = [model for model in stator_models() if router.db_for_write(model) == alias]
    if kept_out:
        yield Error(
            f"Rows of {_labels(here)} are written to the database {alias!r}, but a router keeps "
            f"{_labels(kept_out)} from it.",
            hint=f"Let its allow_migrate() accept the app 'django_fsmworker' in {alias!r}, and run "
            f"'manage.py migrate --database {alias}'.",
            id="fsmworker.E012",
        )


def _labels(models: Sequence[Any]) -> str:
    return ", ".join(sorted(model._meta.label for model in models))


def _check_sqlite(alias: str, database: dict[str, Any]) -> Iterator[CheckMessage]:
    if sqlite3.sqlite_version_info < AT_LEAST:
        wanted = ".".join(map(str, AT_LEAST))
        yield Error(
            f"SQLite {sqlite3.sqlite_version} is too old: {wanted} is needed.",
            hint="Use a Python built with a newer SQLite, or PostgreSQL.",
            id="fsmworker.E010",
        )
    missing = _missing_sqlite_options(database.get("OPTIONS", {}))
    if missing:
        yield Warning(
            f"The SQLite database {alias!r} lacks options that several threads need: "
            f"{', '.join(missing)}.",
            hint=f"Set DATABASES[{alias!r}]['OPTIONS'] = {{'transaction_mode': 'IMMEDIATE', "
            f"'timeout': 20, 'init_command': 'PRAGMA journal_mode=WAL; "
            f"PRAGMA synchronous=NORMAL'}}.",
            id="fsmworker.W001",
        )


def _missing_sqlite_options(options: dict[str, Any]) -> Sequence[str]:
    wal = "journal_mode=wal" in str(options.get("init_command", "")).lower().replace(" ", "")
    present = {
        "transaction_mode": str(options.get("transaction_mode", "")).upper() == "IMMEDIATE",
        "timeout": float(options.get("timeout", 5)) >= 10,
        "init_command": wal,
    }
    return [name for name, is_set in present.items() if not is_set]


def _check_atomic_states(alias: str) -> Iterator[CheckMessage]:
    configured = _settings()
    if configured is None:
        return
    here = [model for model in stator_models() if router.db_for_write(model) == alias]
    states = [(model, state) for model in here for state in model.state_graph.states.values()]
    for model, state in states:
        deadline = state.deadline or configured.deadline
        if state.atomic and deadline >= configured.lease:
            yield Warning(
                f"The atomic check of {state!r} may keep SQLite's only write lock for "
                f"{deadline:g} s, but a lease lasts {configured.lease:g} s.",
                hint="Give the state a deadline shorter than the lease.",
                obj=model,
                id="fsmworker.W003",
            )


def _settings() -> RunnerSettings | None:
    try:
        return RunnerSettings.load()
    except ConfigurationError:  # Reported by check_settings.
        return None


def _check_pool(alias: str, database: dict[str, Any]) -> Iterator[CheckMessage]:
    pool = database.get("OPTIONS", {}).get("pool")
    if not pool:
        return
    options = pool if isinstance(pool, dict) else {}
    size = options.get("max_size") or options.get("min_size", 4)
    configured = _settings()
    if configured is None:
        return
    wanted = _connections_of(configured, alias)
    if size < wanted:
        yield Warning(
            f"The connection pool of {alias!r} holds {size} connections; a runner uses up to "
            f"{wanted}.",
            hint=f"Set DATABASES[{alias!r}]['OPTIONS']['pool'] = {{'max_size': {wanted}}}.",
            id="fsmworker.W002",
        )


def _connections_of(runner: RunnerSettings, alias: str) -> int:
    """How many connections to one database a runner uses at most."""
    models = [model for model in stator_models() if router.db_for_write(model) == alias]
    states = [state for model in models for state in model.state_graph.states.values()]
    for_async = runner.async_threads + 1 if any(state.is_async for state in states) else 0
    for_guards = any(state.guards for state in states) + any(state.swept for state in states)
    return runner.concurrency + for_async + for_guards + CONNECTIONS_BESIDE_THREADS
