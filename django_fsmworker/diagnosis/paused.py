"""The rows that pauses keep from being run, as a condition of the database."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q

from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.limits import key_digest, stored_key
from django_fsmworker.store.pauses import Paused, current

ALL, NONE = Q(state__isnull=False), Q(pk__in=[])


def paused_rows(model: Any, using: str) -> Q:
    """The condition of the rows of ``model`` that a pause in force is about; one query for those.

    Rows with nothing to do are among them. A key that is longer than a pause tells is left out.
    """
    owner = declaring_model(model)
    found = NONE
    for pause in current(using, [owner._meta.label]):
        found |= _about(owner, pause)
    return found


def _about(model: Any, pause: Paused) -> Q:
    if not pause.model:
        return ALL
    states = [each for each in model.state_graph.states.values() if pause.state in ("", each.name)]
    if not pause.digest:
        return Q(state__in=[each.name for each in states]) if pause.state else ALL
    found = NONE
    for state in states:
        if state.limits.key:
            found |= Q(state=state.name) & _has_key(model, state.limits.key, pause)
    return found


def _has_key(model: Any, column: str, pause: Paused) -> Q:
    if pause.digest == key_digest(None):
        return Q(**{f"{column}__isnull": True})
    text = "" if pause.digest == key_digest("") else pause.key
    try:
        key = stored_key(model._meta.get_field(column), text)
    except ValidationError:
        return NONE
    return Q(**{column: key}) if key_digest(key) == pause.digest else NONE
