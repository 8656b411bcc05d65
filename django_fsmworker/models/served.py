"""What a runner of some models runs besides: the records that go with their rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django_fsmworker.models.bulk_action import offered_bulk_actions
from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.event import events_of


def with_companions(models: Iterable[Any]) -> list[Any]:
    """``models``, the events of each whose graph declares any, and bulk actions where offered."""
    own = [model for model in models if not is_companion(model)]
    events = [events_of(model) for model in own if model.state_graph.triggers]
    return own + events + [each for model in own for each in offered_bulk_actions(model)]
