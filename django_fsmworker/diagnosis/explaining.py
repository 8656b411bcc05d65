"""Why a row does not move."""

from __future__ import annotations

from typing import Any

from django_fsmworker.diagnosis.reasons import REASONS
from django_fsmworker.diagnosis.situation import Situation
from django_fsmworker.models.explanation import Explanation


def explain(row: Any) -> Explanation:
    """Read the row, and say why it does not move; ``DoesNotExist`` is raised if it is gone."""
    of = Situation.of(row)
    return Explanation(
        model=of.model._meta.label,
        pk=of.key,
        state=of.row.state,
        since=of.row.state_changed,
        at=of.now,
        reasons=tuple(reason for look in REASONS for reason in look(of)),
    )
