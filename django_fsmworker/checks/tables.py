"""What tables lack; the only checks that look at a database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import connections, router

from django_fsmworker.models.discovery import stator_models
from django_fsmworker.store import store_for


def check_tables(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Called by Django, with ``databases`` where somebody wants these looked at."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        if connections[alias].vendor == "mysql":
            found += _check_tables(alias)
    return found


def _check_tables(alias: str) -> Iterator[CheckMessage]:
    tables = connections[alias].introspection.table_names()
    for model in stator_models():
        if router.db_for_write(model) == alias and model._meta.db_table in tables:
            for lack, remedy in store_for(alias).missing_indexes(model):
                yield Warning(lack, hint=remedy, obj=model, id="fsmworker.W004")
