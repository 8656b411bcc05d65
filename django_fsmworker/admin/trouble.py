"""What needs somebody's attention, in sentences, for the top of the dashboard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.utils.translation import gettext, ngettext

from django_fsmworker.diagnosis.status import total

OVERDUE = 60.0
"""The seconds after which a row that is due is said to wait."""


def trouble(
    away: Iterable[str], parts: Iterable[Any], workers: Sequence[Any], pauses: Sequence[Any]
) -> Iterator[str]:
    """Sentences, the worst first; none if all is well.

    ``away`` are the databases that cannot be reached, the others are the dashboard's lines.
    """
    for alias in away:
        said = gettext("The database %(alias)s cannot be reached; nothing of it is shown.")
        yield said % {"alias": alias}
    parts = list(parts)
    for part in parts:
        if not part.served and part.total.due.number:
            said = gettext("Nobody runs %(model)s; rows that are due: %(count)s.")
            yield said % {"model": part.label, "count": part.total.due}
    for part in parts:
        undeclared = part.total.undeclared
        if undeclared.number:
            said = ngettext(
                "%(count)s row of %(model)s is in a state that its graph does not declare: nobody "
                "runs it.",
                "%(count)s rows of %(model)s are in states that its graph does not declare: nobody "
                "runs them.",
                undeclared.number,
            )
            yield said % {"count": undeclared, "model": part.label}
    lost = sum(each.worker.state == "lost" for each in workers)
    if lost:
        yield ngettext("%(count)d worker is lost.", "%(count)d workers are lost.", lost) % {
            "count": lost
        }
    for part in parts:
        if part.served and part.total.overdue >= OVERDUE:
            said = gettext("Rows of %(model)s have been due for %(age)s.")
            yield said % {"model": part.label, "age": part.total.oldest_due}
    failing = total(each.total.failing for each in parts)
    if failing.number:
        said = ngettext("%(count)s row fails.", "%(count)s rows fail.", failing.number)
        yield said % {"count": failing}
    parked = total(each.total.parked for each in parts)
    if parked.number:
        said = ngettext("%(count)s row is parked.", "%(count)s rows are parked.", parked.number)
        yield said % {"count": parked}
    if pauses:
        said = ngettext(
            "%(count)d pause is in force.", "%(count)d pauses are in force.", len(pauses)
        )
        yield said % {"count": len(pauses)}
