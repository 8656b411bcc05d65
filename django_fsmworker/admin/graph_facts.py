"""What rows do, state by state and transition by transition, in words for a graph and its table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext, ngettext

from django_fsmworker.admin.formatting import duration
from django_fsmworker.diagnosis.flow import Flow, Move, Passages
from django_fsmworker.diagnosis.status import Number, StateStatus
from django_fsmworker.diagram.description import Diagram, Edge
from django_fsmworker.diagram.marks import EdgeMark, StateMark

MEDIAN, MOST = 0.5, 0.95


@dataclass(frozen=True, slots=True)
class StateLine:
    """The rows in one state; ``url`` lists them."""

    label: str
    url: str
    declared: bool
    rows: Number
    due: Number
    oldest_due: str
    running: Number
    failing: Number
    parked: Number

    @property
    def mark(self) -> StateMark:
        """The numbers of this line, for the box of the state in the drawing."""
        rows = ngettext("%(rows)s row", "%(rows)s rows", self.rows.number) % {"rows": self.rows}
        words = [
            words % {"number": number}
            for words, number in (
                (gettext("%(number)s due"), self.due),
                (gettext("%(number)s running"), self.running),
                (gettext("%(number)s failing"), self.failing),
                (gettext("%(number)s parked"), self.parked),
            )
            if number.number
        ]
        return StateMark(
            facts=(rows, " · ".join(words)),
            said=", ".join([rows, *words]),
            url=self.url,
            tone="failing" if self.failing.number or self.parked.number else "",
        )


@dataclass(frozen=True, slots=True)
class MoveLine:
    """The rows that take one transition: how many in a time, and how long they stayed before."""

    source: str
    target: str
    how: str
    rate: str = ""
    median: str = ""
    most: str = ""

    @property
    def mark(self) -> EdgeMark:
        """The numbers of this line, for the line of the transition in the drawing."""
        if not self.rate:
            return EdgeMark()
        stays = f"p50 {self.median} · p95 {self.most}" if self.median else ""
        return EdgeMark(facts=(self.rate, stays))


def state_lines(found: Iterable[StateStatus], graph: Any, urls: Any) -> dict[str, StateLine]:
    """The rows by the names of their states; ``urls(name)`` is where they are listed."""
    return {
        each.state: StateLine(
            label=label_of(graph, each.state),
            url=urls(each.state),
            declared=each.declared,
            rows=each.rows,
            due=each.due,
            oldest_due="" if each.oldest_due is None else duration(each.oldest_due),
            running=each.running,
            failing=each.failing,
            parked=each.parked,
        )
        for each in found
    }


def label_of(graph: Any, name: str) -> str:
    """What people read of a state; a state that the graph does not declare shows as it is."""
    state = graph.states.get(name)
    return name if state is None else str(state.label)


def move_lines(diagram: Diagram, flow: Flow | None) -> tuple[dict[Edge, MoveLine], list[MoveLine]]:
    """The transitions that the graph declares, and what rows were moved by besides."""
    taken: dict[Edge, Passages] = {}
    others: dict[tuple[str, str], Passages] = {}
    for move, passages in (flow.moves if flow else {}).items():
        edge = edge_of(diagram, move)
        if edge is None:
            _add(others.setdefault(move[:2], Passages(passages.seconds)), passages)
        else:
            _add(taken.setdefault(edge, Passages(passages.seconds)), passages)
    labels = {state.name: state.label for state in diagram.states}
    declared = {
        edge: _line(edge.source, edge.target or "", how(edge), taken.get(edge), labels)
        for edge in diagram.edges
    }
    undeclared = [
        _line(*ends, gettext("by code, undeclared"), passages, labels)
        for ends, passages in others.items()
    ]
    return declared, undeclared


def edge_of(diagram: Diagram, move: Move) -> Edge | None:
    """The edge that a move has taken: one of its cause, else any between the same states.

    Code moves rows along edges of all kinds.
    """
    between = [
        edge for edge in diagram.edges if edge.source == move.source and edge.target == move.target
    ]
    for edge in between:
        if edge.kind == move.cause and (edge.kind != "event" or trigger_of(edge) == move.trigger):
            return edge
    return between[0] if between else None


def trigger_of(edge: Edge) -> str:
    """The name of the event of an edge."""
    return edge.text.partition(" ")[0]


def how(edge: Edge) -> str:
    """The way in which an edge moves rows, in words."""
    kinds = {
        "check": gettext("check"),
        "guard": gettext("guard"),
        "timeout": gettext("timeout"),
        "failure": gettext("failure"),
        "event": gettext("event"),
    }
    return f"{kinds[edge.kind]}: {edge.text}" if edge.text else kinds[edge.kind]


def rate_text(rate: float) -> str:
    """A number of moves a second in the largest unit of time that has not too many of them."""
    units = (
        (1, gettext("%(number)s/s")),
        (60, gettext("%(number)s/min")),
        (3600, gettext("%(number)s/h")),
        (86_400, gettext("%(number)s/d")),
    )
    seconds, words = next((unit for unit in units if rate * unit[0] >= 1), units[-1])
    number = rate * seconds
    return words % {"number": f"{number:.0f}" if number >= 10 else f"{number:.1f}"}


def stay_text(seconds: float | None) -> str:
    """A time in a state; in milliseconds where it is short."""
    if seconds is None:
        return ""
    if seconds < 2:
        return gettext("%(number)d ms") % {"number": round(seconds * 1000)}
    return duration(seconds)


def _add(sum_: Passages, passages: Passages) -> None:
    sum_.number += passages.number
    sum_.stays += passages.stays


def _line(
    source: str, target: str, how: str, passages: Passages | None, labels: dict[str, str]
) -> MoveLine:
    ends = (labels.get(source, source), labels.get(target, target) or gettext("stays"))
    if passages is None:
        return MoveLine(*ends, how)
    return MoveLine(
        *ends,
        how,
        rate_text(passages.rate),
        stay_text(passages.stay(MEDIAN)),
        stay_text(passages.stay(MOST)),
    )
