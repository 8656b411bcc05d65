"""The models that a command line names."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import CommandError

from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.discovery import stator_models


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
