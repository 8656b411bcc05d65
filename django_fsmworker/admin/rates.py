"""How many attempts end in a minute: now, and in the last two hours as a line to look at."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from typing import Any

from django.db.models import F, Q, QuerySet, Sum
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_fsmworker import clock
from django_fsmworker.diagnosis.service import Service
from django_fsmworker.models import StatorLog
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.store import Ending

PARTS, MINUTES = 24, 5
"""The parts of the line, and how long each of them is."""
LATE = timedelta(minutes=1)
"""The time by which runners write down what they did; the line ends where all of it is known."""

ENDED = tuple(Ending)
"""The columns of ``StatorLog`` that count attempts which ended, as ``handled`` does."""

STEP, HEIGHT = 4, 20


class Rates:
    """The rates of models; of each database, what workers tell and have written is read once."""

    def __init__(self) -> None:
        self._service = cache(Service)
        self._past = cache(past_rates)

    def now(self, model: Any, alias: str, states: Iterable[str]) -> str:
        """Attempts a minute in these states, as living workers told last; empty without any."""
        service = self._service(alias)
        return per_minute_text(sum(service.pace(model, state).per_minute for state in states))

    def line(self, model: Any, alias: str) -> SafeString | None:
        """The rates of the last two hours; None if nothing is on record of them."""
        rates = self._past(alias).get(declaring_model(model)._meta.label, ())
        return _drawn(rates) if any(rates) else None


def past_rates(alias: str) -> dict[str, list[float]]:
    """Attempts a minute by the label of their model, the earliest first; one query."""
    end, part = clock.now() - LATE, timedelta(minutes=MINUTES)
    bounds = [end - number * part for number in range(PARTS, -1, -1)]
    ended = sum((F(name) for name in ENDED[1:]), F(ENDED[0]))
    sums = {
        f"part_{number}": Sum(
            ended, filter=Q(until__gt=bounds[number], until__lte=bounds[number + 1]), default=0
        )
        for number in range(PARTS)
    }
    summaries: QuerySet[StatorLog] = QuerySet(StatorLog, using=alias)
    recent = summaries.filter(until__gt=bounds[0], until__lte=end).order_by()
    found = recent.values("model").annotate(**sums).values_list("model", *sums)
    return {model: [number / MINUTES for number in numbers] for model, *numbers in found}


def _drawn(rates: Iterable[float]) -> SafeString:
    """The line, with what it says in words."""
    values = list(rates)
    most = max(values)
    points = [
        (number * STEP + 1, round(HEIGHT - 1 - value / most * (HEIGHT - 2), 1))
        for number, value in enumerate(values)
    ]
    said = gettext("In the last two hours at most %(most)s a minute, on average %(mean)s") % {
        "most": per_minute_text(most),
        "mean": per_minute_text(sum(values) / len(values)),
    }
    return format_html(
        '<svg class="fsmworker-line" role="img" width="{width}" height="{height}" '
        'viewBox="0 0 {width} {height}"><title>{said}</title><polyline fill="none" '
        'stroke="currentColor" stroke-width="1.5" points="{points}"/></svg>',
        width=(PARTS - 1) * STEP + 2,
        height=HEIGHT,
        said=said,
        points=format_html_join(" ", "{},{}", points),
    )


def per_minute_text(rate: float) -> str:
    """Attempts a minute: two digits of a small number, else the whole part; empty for zero."""
    if not rate:
        return ""
    return f"{rate:.2g}" if rate < 10 else f"{rate:.0f}"
