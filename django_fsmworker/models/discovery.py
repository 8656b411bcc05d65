"""Finding the models that have a life."""

from __future__ import annotations

from typing import Any

from django.apps import apps

from django_fsmworker.models.fields import StateField


def stator_models() -> list[Any]:
    """Every concrete model that declares a state graph, each table once, no proxies."""
    return [model for model in apps.get_models() if declares_life(model)]


def declaring_model(model: Any) -> Any:
    """The concrete model whose table has the state column of ``model``: itself, or a parent.

    A proxy's is the model it stands for; a multi-table child's the parent with the ``StateField``.
    """
    return model._meta.get_field("state").model


def declares_life(model: Any) -> bool:
    """True for the concrete model whose own table has the state column."""
    return any(
        isinstance(field, StateField) and field.graph is not None
        for field in model._meta.local_concrete_fields
        if not model._meta.proxy
    )
