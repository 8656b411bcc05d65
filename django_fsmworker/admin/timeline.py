"""The way of a row through its states, for people: from its log, else from its history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from django_fsmworker.admin.formatting import moment
from django_fsmworker.admin.graph_facts import label_of, stay_text
from django_fsmworker.admin.redaction import Redact, redactor
from django_fsmworker.models.fields import StateHistoryField
from django_fsmworker.models.transition_log import logs_transitions

LONGEST = 50
"""The most steps that a page shows, the latest of them."""


@dataclass(frozen=True, slots=True)
class Step:
    """One move of a row, in words."""

    at: str
    source: str
    target: str
    after: str = ""
    """How long the row was in the source."""
    why: str = ""
    by: str = ""
    worker: str = ""
    attempts: str = ""
    """How many attempts in a row it took, the last one included."""
    cause: str = ""
    trigger: str = ""
    labels: tuple[str, str] = ("", "")
    """What people read of the source and of the target."""


def timeline(row: Any) -> list[Step]:
    """The latest moves of ``row``, the last one first; a query only where there is a log."""
    if logs_transitions(type(row)):
        redact = redactor()
        steps = [_logged(entry, redact) for entry in row.state_log.order_by("-pk")[:LONGEST]]
    else:
        steps = list(_remembered(row))[: -LONGEST - 1 : -1]
    graph = row.state_graph
    return [
        replace(each, labels=(label_of(graph, each.source), label_of(graph, each.target)))
        for each in steps
    ]


def _logged(entry: Any, redact: Redact) -> Step:
    why = " ".join(filter(None, (entry.cause, entry.trigger)))
    return Step(
        at=moment(entry.at),
        source=entry.source,
        target=entry.target,
        after=stay_text(None if entry.duration is None else entry.duration.total_seconds()),
        why=f"{why}: {redact('reason', entry.reason, entry)}" if entry.reason else why,
        by=entry.by,
        worker=entry.worker,
        attempts="" if entry.attempt is None else str(entry.attempt),
        cause=entry.cause,
        trigger=entry.trigger,
    )


def _remembered(row: Any) -> Iterator[Step]:
    fields = [each for each in row._meta.concrete_fields if each.name == "state_history"]
    if not fields or not isinstance(fields[0], StateHistoryField) or not row.state_history:
        return
    first, at = row.state_history[0]
    yield Step(at=moment(datetime.fromisoformat(at)), source="", target=first)
    for (source, since), (target, until) in pairwise(row.state_history):
        entered, left = datetime.fromisoformat(since), datetime.fromisoformat(until)
        yield Step(
            at=moment(left),
            source=source,
            target=target,
            after=stay_text((left - entered).total_seconds()),
        )
