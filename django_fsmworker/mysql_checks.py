"""System checks that only concern MariaDB and MySQL."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router

from django_fsmworker.models.discovery import stator_models
from django_fsmworker.store import store_for


def check_mysql(
    alias: str, database: dict[str, Any], models: Sequence[Any]
) -> Iterator[CheckMessage]:
    """What the settings, and the graphs of ``models``, have to say; looks at no database."""
    zone = database.get("TIME_ZONE")
    if zone not in (None, "UTC"):
        yield Error(
            f"The database {alias!r} has the TIME_ZONE {zone!r}, so its columns hold local times, "
            f"which are ambiguous for an hour a year.",
            hint=f"Take TIME_ZONE out of DATABASES[{alias!r}].",
            id="fsmworker.E013",
        )
    for model in models:
        yield from _check_names(model)


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


def check_tables(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """What the tables lack; looks at these databases."""
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
