"""What the databases that hold such models have to offer; looks at settings only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router
from django.db.models import Model

from django_fsmworker.checks.settings import runner_settings
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.records import RECORDS
from django_fsmworker.models.worker import Worker
from django_fsmworker.store import NAMES, STORES, store_for


def check_databases(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Called by Django."""
    here: dict[str, list[Any]] = {}
    for model in stator_models():
        here.setdefault(router.db_for_write(model), []).append(model)
    found: list[CheckMessage] = []
    for alias in sorted(here):
        connection = connections[alias]
        store = STORES.get(connection.vendor)
        if store is None:
            found.append(
                Error(
                    f"The database {alias!r} is {connection.vendor}; rows with a state graph can "
                    f"be run on {NAMES}.",
                    hint="Route these models to such a database.",
                    id="fsmworker.E009",
                )
            )
            continue
        found += _check_records(alias, here[alias])
        found += store.check_settings(connection, here[alias], runner_settings())
    return found


def _check_records(alias: str, here: Sequence[Any]) -> Iterator[CheckMessage]:
    """Failures and summaries are written beside the rows that they are about."""
    if store_for(alias).switches_schemas:
        return  # a router that answers for the current schema, which has no rows to run
    records: list[type[Model]] = [*RECORDS, Worker]
    kept_out = [each for each in records if not router.allow_migrate_model(alias, each)]
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


def check_tables(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Called by Django, with ``databases`` where somebody wants these looked at."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        if not connections[alias].features.supports_partial_indexes:
            found += _check_tables(alias)
    return found


def _check_tables(alias: str) -> Iterator[CheckMessage]:
    tables = connections[alias].introspection.table_names()
    for model in stator_models():
        if router.db_for_write(model) == alias and model._meta.db_table in tables:
            for lack, remedy in store_for(alias).missing_indexes(model):
                yield Warning(lack, hint=remedy, obj=model, id="fsmworker.W004")
