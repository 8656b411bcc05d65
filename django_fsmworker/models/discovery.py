"""The installed models that declare a state graph, and in which databases their rows are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db import router
from django.db.models import Model, QuerySet

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.models.fields import StateField, has_life
from django_fsmworker.models.keys import declaring_model


def stator_models(database: str | None = None) -> list[Any]:
    """Every installed concrete model that declares a state graph, each table once, no proxies.

    ``database`` is an alias: only the models that the routers keep there are returned. By default
    all are.
    """
    found = [model for model in apps.get_models() if declares_life(model)]
    return [model for model in found if database is None or is_kept_in(model, database)]


def is_kept_in(model: Any, database: str) -> bool:
    """Whether the routers write ``model`` to ``database``, or let it have a table there."""
    return router.db_for_write(model) == database or router.allow_migrate_model(database, model)


def write_database(rows: QuerySet[Any]) -> str:
    """The alias of the database to which ``rows`` are written: the one they name, or routers do."""
    written: Any = rows.all()
    written._for_write = True
    return str(written.db)


def refuse_not_run(models: Iterable[Any]) -> None:
    """Raise ``ConfigurationError`` for what has no rows to run.

    That is whatever is no model with a life, and a multi-table child whose parent has the state.
    """
    for model in models:
        is_model = isinstance(model, type) and has_life(model) and issubclass(model, Model)
        if not is_model or model._meta.abstract:
            raise ConfigurationError(
                f"{model!r} is not a model with a state graph; give the class of a StatorModel "
                f"that declares state = StateField(…)."
            )
        owner = declaring_model(model)
        if model._meta.concrete_model is not owner:
            raise ConfigurationError(
                f"{model._meta.label} has its state in the table of {owner._meta.label}; its rows "
                f"are claimed, run and deleted as rows of {owner._meta.label}: name that instead."
            )


def declares_life(model: Any) -> bool:
    """Whether ``model`` is a concrete ``StatorModel`` whose own table has the state column."""
    return has_life(model) and any(
        isinstance(field, StateField) and field.graph is not None
        for field in model._meta.local_concrete_fields
        if not model._meta.proxy
    )
