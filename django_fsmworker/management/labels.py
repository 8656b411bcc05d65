"""The models that a command line names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError
from django.db import connections

from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.discovery import is_kept_in, stator_models


def chosen_models(
    labels: list[str], exclude: list[str], database: str | None, *, to_run: bool = False
) -> list[Any]:
    """The models named by ``labels`` (all, if none are), without those in ``exclude``.

    With ``database`` there are only those that the routers keep in it. Events are none of those
    ``to_run``: they go with the models that they are for.
    """
    found = [each for each in stator_models(database) if not (to_run and is_companion(each))]
    known = {model._meta.label_lower: model for model in found}
    wanted = [_look_up(label, known) for label in labels] or list(known.values())
    unwanted = [_look_up(label, known) for label in exclude]
    left = [model for model in dict.fromkeys(wanted) if model not in unwanted]
    if not left:
        raise CommandError(
            "There is nothing to run: "
            + ("every model is excluded." if known else "no installed model has a StateField.")
        )
    return left


def databases_named(text: str | None) -> list[str]:
    """The aliases in a text such as ``a,b``; none for None."""
    aliases = list(dict.fromkeys(filter(None, (text or "").replace(" ", "").split(","))))
    for alias in aliases:
        if alias not in connections:
            raise CommandError(
                f"There is no database {alias!r}; DATABASES has {', '.join(connections)}."
            )
    return aliases


def chosen_by_database(
    labels: list[str], exclude: list[str], aliases: Sequence[str], *, to_run: bool = False
) -> dict[str, list[Any]]:
    """By alias, the models that are chosen and that the routers keep there."""
    if len(aliases) == 1:
        return {aliases[0]: chosen_models(labels, exclude, aliases[0], to_run=to_run)}
    models = chosen_models(labels, exclude, None, to_run=to_run)
    found = {alias: [each for each in models if is_kept_in(each, alias)] for alias in aliases}
    for alias, some in found.items():
        if not some:
            raise CommandError(f"No model is kept in the database {alias!r}; leave that out.")
    for model in models if labels else ():
        if not any(model in some for some in found.values()):
            raise CommandError(
                f"{model._meta.label} is kept in none of these databases: {', '.join(aliases)}."
            )
    return found


def _look_up(label: str, known: dict[str, Any]) -> Any:
    if label.lower() in known:
        return known[label.lower()]
    for model in known.values():
        for each in apps.get_models():
            if each._meta.label_lower == label.lower() and issubclass(each, model):
                raise CommandError(
                    f"{label!r} has its state in the table of {model._meta.label}; name that."
                )
    names = ", ".join(sorted(model._meta.label for model in known.values())) or "none"
    raise CommandError(f"{label!r} is not a model with a state graph; there are: {names}.")
