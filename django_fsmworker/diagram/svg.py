"""A graph as an SVG: a picture by itself, or a part of a page whose style sheet has its classes.

A part of a page has neither style nor script. It takes the colours of Django's admin.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from django_fsmworker.diagram.description import Diagram, Edge
from django_fsmworker.diagram.lettering import clean
from django_fsmworker.diagram.marks import Marks, StateMark
from django_fsmworker.diagram.picture import (
    DOT,
    HEAD,
    NAME_LINE,
    TEXT_LINE,
    Box,
    Line,
    Picture,
    lay_out,
)
from django_fsmworker.diagram.stylesheet import style_of_its_own

HEADS = {
    "down": ((0, 0), (-4.5, -HEAD), (4.5, -HEAD)),
    "up": ((0, 0), (-4.5, HEAD), (4.5, HEAD)),
    "left": ((0, 0), (HEAD, -4.5), (HEAD, 4.5)),
}
WAYS = {
    "check": "by its check",
    "guard": "if",
    "timeout": "as it times out",
    "failure": "as it fails",
    "event": "by the event",
}


def render(diagram: Diagram) -> str:
    """A picture by itself, with the options of each state in its box."""
    states = {state.name: StateMark(facts=state.notes) for state in diagram.states}
    return _svg(diagram, Marks(states), alone=True)


def render_part(diagram: Diagram, marks: Marks) -> str:
    """A part of a page."""
    return _svg(diagram, marks, alone=False)


def _svg(diagram: Diagram, marks: Marks, *, alone: bool) -> str:
    picture = lay_out(diagram, marks)
    failing = {edge.target for edge in diagram.edges if edge.kind == "failure"}
    parts = [_opening(picture, marks, alone=alone)]
    parts.append(f'<title id="{marks.key}-title">{_text(marks.title or diagram.name)}</title>')
    parts.append(f'<desc id="{marks.key}-desc">{_text(" ".join(_said(diagram, marks)))}</desc>')
    if alone:
        parts.append(f"<style>{style_of_its_own()}</style>")
        parts.append('<rect class="fsmworker-ground" width="100%" height="100%" rx="8"/>')
    for line in picture.lines:
        parts += _line(line)
    for box in picture.boxes:
        for loop in box.loops:
            parts += _line(loop)
    for line in (*picture.lines, *(loop for box in picture.boxes for loop in box.loops)):
        parts += _label(line)
    for box in picture.boxes:
        parts += _box(box, failing=box.state.name in failing)
    return "\n".join([*parts, "</svg>"])


def _opening(picture: Picture, marks: Marks, *, alone: bool) -> str:
    width, height = _n(picture.width), _n(picture.height)
    classes = "fsmworker-map fsmworker-dimmed" if marks.dimmed else "fsmworker-map"
    # Within role="img" nothing is read or reached, so a picture with links is a group.
    role = "group" if any(mark.url for mark in marks.states.values()) else "img"
    namespace = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    return (
        f'<svg{namespace} class="{classes}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="{role}" '
        f'aria-labelledby="{marks.key}-title" aria-describedby="{marks.key}-desc">'
    )


def _said(diagram: Diagram, marks: Marks) -> Iterator[str]:
    """The graph in words, for those who do not see it."""
    for state in diagram.states:
        begins = " (here it begins)" if state.initial else ""
        yield f"{state.label}{begins}:"
        mark = marks.states.get(state.name)
        if mark and mark.said:
            yield f"{mark.said};"
        ways = [_way(edge) for edge in diagram.edges if edge.source == state.name]
        yield f"{', '.join(ways)}." if ways else "no way out."


def _way(edge: Edge) -> str:
    where = "stays" if edge.target is None else f"to {edge.target}"
    return " ".join(filter(None, (where, WAYS[edge.kind], edge.text)))


def _line(line: Line) -> Iterator[str]:
    if not line.path:
        return
    yield f'<g class="{_classes(line)}">'
    yield f'<path class="fsmworker-line" d="{line.path}" fill="none"/>'
    x, y = line.head
    corners = " ".join(f"{_n(x + dx)},{_n(y + dy)}" for dx, dy in HEADS[line.points])
    yield f'<polygon class="fsmworker-head" points="{corners}"/></g>'


def _classes(line: Line) -> str:
    passed = " fsmworker-passed" if line.mark.passed else ""
    return f"fsmworker-edge fsmworker-by-{line.edge.kind}{passed}"


def _label(line: Line) -> Iterator[str]:
    texts = [*((each, "label") for each in line.text), *((each, "fact") for each in line.facts)]
    if not texts:
        return
    width, height = line.width + 6, line.height
    yield f'<g class="{_classes(line)}">'
    yield (
        f'<rect class="fsmworker-back" x="{_n(line.x - width / 2)}" y="{_n(line.y - height / 2)}" '
        f'width="{_n(width)}" height="{_n(height)}" rx="3"/>'
    )
    if "…" in "".join(line.text):
        yield f"<title>{_text(line.edge.text)}</title>"
    x, anchor = (line.x - line.width / 2, "start") if line.beside else (line.x, "middle")
    y = line.y - height / 2 - 4
    for text, kind in texts:
        y += TEXT_LINE
        yield _written(text, kind, x, y, anchor)
    yield "</g>"


def _box(box: Box, *, failing: bool) -> Iterator[str]:
    state, mark = box.state, box.mark
    classes = f"fsmworker-state fsmworker-is-{state.kind}"
    classes += " fsmworker-is-failure" if failing else ""
    classes += f" fsmworker-is-{mark.tone}" if mark.tone else ""
    if state.initial:
        yield from _beginning(box)
    name = ": ".join(filter(None, (clean(state.label), mark.said)))
    if mark.url:
        yield f'<a class="{classes}" href={_quoted(mark.url)} aria-label={_quoted(name)}>'
    else:
        yield f'<g class="{classes}">'
    yield f"<title>{_text('; '.join([name, *state.notes]))}</title>"
    yield _rect("fsmworker-box", box, 0, 4 if state.kind == "manual" else 10)
    if state.kind == "terminal":
        yield _rect("fsmworker-inner", box, 3.5, 7)
    y = box.y - box.height / 2 + 2
    for text in box.name:
        y += NAME_LINE
        yield _written(text, "name", box.x, y)
    y += 1
    for text in box.facts:
        y += TEXT_LINE
        yield _written(text, "fact", box.x, y)
    yield "</a>" if mark.url else "</g>"


def _rect(name: str, box: Box, inset: float, radius: float) -> str:
    x, y = box.x - box.width / 2 + inset, box.y - box.height / 2 + inset
    width, height = box.width - 2 * inset, box.height - 2 * inset
    return (
        f'<rect class="{name}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" '
        f'height="{_n(height)}" rx="{_n(radius)}"/>'
    )


def _beginning(box: Box) -> Iterator[str]:
    """A dot above the state in which rows begin, with an arrow."""
    x, top = box.x, box.y - box.height / 2
    corners = " ".join(f"{_n(x + dx)},{_n(top + dy)}" for dx, dy in HEADS["down"])
    yield '<g class="fsmworker-edge fsmworker-beginning">'
    yield f'<circle class="fsmworker-head" cx="{_n(x)}" cy="{_n(top - DOT + 4)}" r="5"/>'
    yield f'<path class="fsmworker-line" d="M{_n(x)} {_n(top - DOT + 4)}V{_n(top - HEAD)}"/>'
    yield f'<polygon class="fsmworker-head" points="{corners}"/></g>'


def _written(text: str, kind: str, x: float, y: float, anchor: str = "middle") -> str:
    return (
        f'<text class="fsmworker-{kind}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">'
        f"{_text(text)}</text>"
    )


def _text(text: str) -> str:
    return escape(clean(text))


def _quoted(text: str) -> str:
    return quoteattr(clean(text))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
