"""What the databases that hold such models have to offer; looks at settings only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error
from django.db import connections, router

from django_fsmworker.checks.mysql import check_mysql
from django_fsmworker.checks.postgresql import check_postgresql
from django_fsmworker.checks.sqlite import check_sqlite
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.records import FailureRecord, StatorLog
from django_fsmworker.store import NAMES, STORES

OF_VENDOR = {"mysql": check_mysql, "postgresql": check_postgresql, "sqlite": check_sqlite}


def check_databases(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Called by Django."""
    here: dict[str, list[Any]] = {}
    for model in stator_models():
        here.setdefault(router.db_for_write(model), []).append(model)
    found: list[CheckMessage] = []
    for alias in sorted(here):
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
        found += _check_records(alias, here[alias])
        found += OF_VENDOR[connection.vendor](alias, connection.settings_dict, here[alias])
    return found


def _check_records(alias: str, here: Sequence[Any]) -> Iterator[CheckMessage]:
    """Failures and summaries are written beside the rows that they are about."""
    records = (FailureRecord, StatorLog)
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
