"""How often rows take each transition, and how long they were in its source before.

The newest entries of the transition log tell, so that it takes no longer with a long log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db.models import Max, QuerySet

from django_fsmworker.models import TransitionRecord
from django_fsmworker.models.keys import (
    MOST_KEYS,
    declaring_model,
    key_from,
    key_name,
    portions,
    row_key,
)
from django_fsmworker.models.transition_log import logs_transitions
from django_fsmworker.store import store_for

# Entries that are used, and the newest ones, of all models, among which these are looked for.
USED = 5_000
LOOKED_AT = 50_000


class Move(NamedTuple):
    """What moves have in common that are alike; ``cause`` and ``trigger`` as in the log."""

    source: str
    target: str
    cause: str
    trigger: str


@dataclass(slots=True)
class Passages:
    """Moves that are alike, in ``seconds``; ``stays``: for how long each row was in the source."""

    seconds: float
    number: int = 0
    stays: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Moves a second."""
        return self.number / self.seconds

    def stay(self, share: float) -> float | None:
        """The seconds in which that share of rows had left the source; None if it is unknown."""
        if not self.stays:
            return None
        return sorted(self.stays)[ceil(share * len(self.stays)) - 1]


@dataclass(frozen=True, slots=True)
class Flow:
    """The moves of a model since the moment ``since``, of which ``entries`` in the log tell."""

    since: datetime | None
    seconds: float
    entries: int
    moves: dict[Move, Passages]


def flow_of(model: Any, using: str, within: QuerySet[Any] | None = None) -> Flow | None:
    """The flow of the rows of ``model``, or of those ``within``; None where there is no log.

    It takes three queries, and a fourth one where ``within`` is given.
    """
    if not logs_transitions(model):
        return None
    entries: QuerySet[TransitionRecord] = QuerySet(TransitionRecord, using=using)
    last = entries.aggregate(last=Max("pk"))["last"] or 0
    found = list(
        entries.filter(model=declaring_model(model)._meta.label, pk__gt=last - LOOKED_AT)
        .order_by("-pk")
        .values_list("row", "at", "duration", "source", "target", "cause", "trigger")[:USED]
    )
    if within is not None:
        visible = _visible(within, {entry[0] for entry in found})
        found = [entry for entry in found if entry[0] in visible]
    if not found:
        return Flow(None, 0, 0, {})
    since = min(entry[1] for entry in found)
    seconds = max((store_for(using).now() - since).total_seconds(), 1.0)
    moves: dict[Move, Passages] = {}
    for _, _, stay, *alike in found:
        passages = moves.setdefault(Move(*alike), Passages(seconds))
        passages.number += 1
        if stay is not None:
            passages.stays.append(stay.total_seconds())
    return Flow(since, seconds, len(found), moves)


def _visible(within: QuerySet[Any], names: set[str]) -> set[str]:
    """The part of ``names``, which are keys as the log has them, with a row ``within``."""
    model, key = within.model, key_name(within.model)
    keys = []
    for name in names:
        try:
            keys.append(key_from(declaring_model(model), name))
        except (ValueError, ValidationError):  # the key had another type then
            continue
    rows = within.order_by()
    return {
        row_key(found)
        for some in portions(keys, MOST_KEYS)
        for found in rows.filter(**{f"{key}__in": some}).values_list(key, flat=True)
    }
