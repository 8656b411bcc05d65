"""What an action of a list would do: to how many rows, and why it would leave others out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext, ngettext

from django_fsmworker.bulk.verbs import WHY, BulkVerb
from django_fsmworker.diagnosis.status import Number
from django_fsmworker.store import store_for

LOOKED_AT = 10_000
"""The most rows that are looked at; of more, the number of all is an estimate."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What the page says: a sentence, and a line for each reason to leave rows out."""

    looked_at: int
    sentence: str
    lines: tuple[str, ...]


def preview(rows: QuerySet[Any], verb: BulkVerb) -> Preview:
    """What ``verb`` would do to ``rows``; one query, and one more where they are many."""
    asked = rows.order_by().annotate(fsm_why_=verb.why()).values_list("pk", "fsm_why_")
    found = dict(asked[: LOOKED_AT + 1])
    is_part = len(found) > LOOKED_AT
    whys = Counter(list(found.values())[:LOOKED_AT])
    number, seen = whys.pop("", 0), min(len(found), LOOKED_AT)
    sentence = ngettext(
        "It applies to %(count)d of the %(matched)d rows chosen.",
        "It applies to %(count)d of the %(matched)d rows chosen.",
        number,
    )
    if is_part:
        sentence = gettext(
            "%(all)s rows match. It applies to %(count)d of the first %(matched)d; the runners do "
            "it on all of them."
        )
    sentence %= {"count": number, "matched": seen, "all": _all(rows) if is_part else seen}
    if whys:
        sentence += " " + gettext("The others are left out:")
    lines = tuple(f"{count}: {WHY[why]}" for why, count in whys.most_common())
    return Preview(len(found), sentence, lines)


def _all(rows: QuerySet[Any]) -> Number:
    """About how many rows there are."""
    estimate = store_for(rows.db).statistics.number_of(rows.order_by())
    return Number(max(estimate, LOOKED_AT), estimated=True)
