"""Records with a life of their own that go with the rows of a model: whoever runs those runs them.

They are all in one table, and a runner's lane is a model's: so each model that has some gets a
model for its part of that table.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from django.apps.registry import Apps

from django_fsmworker.models.keys import declaring_model

Records = TypeVar("Records")

_companions: list[type] = []


def companion(records: type[Records]) -> type[Records]:
    """Declare the model ``records`` to be one of those that go with the rows of others."""
    _companions.append(records)
    return records


@cache
def companion_of(records: Any, target: Any) -> Any:
    """The records that go with rows of ``target``, as a model; ``records`` has a column ``model``.

    The model is a proxy that no registry of Django's knows.
    """
    owner = declaring_model(target)
    if owner is not target:
        return companion_of(records, owner)
    label = owner._meta.label
    meta = type("Meta", (), {"proxy": True, "app_label": records._meta.app_label, "apps": Apps()})
    return type(
        f"{records.__name__}[{label}]",
        (records,),
        {
            "__module__": records.__module__,
            "Meta": meta,
            "state_target": owner,
            "state_lane_key": ("model", label),
        },
    )


def is_companion(model: Any) -> bool:
    """Whether ``model`` is one of such records, of all models or of one."""
    return issubclass(model, tuple(_companions))


def target_of(model: Any) -> Any:
    """The model with whose rows ``model`` goes; any other model itself."""
    return model.state_target or model if is_companion(model) else model
