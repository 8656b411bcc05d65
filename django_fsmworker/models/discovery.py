"""Finding the models that have a life."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db import router

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.models.fields import StateField


def stator_models(database: str | None = None) -> list[Any]:
    """Every concrete model that declares a state graph, each table once, no proxies.

    With ``database``, an alias, those that the routers keep there.
    """
    found = [model for model in apps.get_models() if declares_life(model)]
    return [model for model in found if database is None or is_kept_in(model, database)]


def is_kept_in(model: Any, database: str) -> bool:
    """Whether the routers write ``model`` to this database, or let it have a table there."""
    return router.db_for_write(model) == database or router.allow_migrate_model(database, model)


def declaring_model(model: Any) -> Any:
    """The concrete model whose table has the state column of ``model``: itself, or a parent.

    A proxy's is the model it stands for; a multi-table child's the parent with the ``StateField``.
    """
    return model._meta.get_field("state").model


def is_in_several_tables(model: Any) -> bool:
    """Whether a row of ``model`` has columns in a parent's table (multi-table inheritance)."""
    return bool(model._meta.concrete_model._meta.parents)


def refuse_children(models: Iterable[Any]) -> None:
    """Raise ``ConfigurationError`` for a multi-table child whose parent declares the state."""
    for model in models:
        owner = declaring_model(model)
        if model._meta.concrete_model is not owner:
            raise ConfigurationError(
                f"{model._meta.label} has its state in the table of {owner._meta.label}; its rows "
                f"are claimed, run and deleted as rows of {owner._meta.label}: name that instead."
            )


def declares_life(model: Any) -> bool:
    """True for the concrete model whose own table has the state column."""
    return any(
        isinstance(field, StateField) and field.graph is not None
        for field in model._meta.local_concrete_fields
        if not model._meta.proxy
    )
