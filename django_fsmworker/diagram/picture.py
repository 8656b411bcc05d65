"""A diagram with a place for everything, in pixels: a renderer only has to write it down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django_fsmworker.diagram.description import Diagram, Edge, StateBox
from django_fsmworker.diagram.lettering import lines_of, width_of
from django_fsmworker.diagram.marks import EdgeMark, Marks, StateMark
from django_fsmworker.diagram.ranks import Part, parts_of
from django_fsmworker.diagram.spacing import Extents, axes, spread

NAME_SIZE, TEXT_SIZE = 14, 11.5
NAME_LINE, TEXT_LINE = 19, 15
LONGEST_NAME, LONGEST_TEXT = 24, 26
PADDING, LEAST_WIDTH = 14, 92
MARGIN, GAP = 16, 18
LOOP, LOOP_HALF = 24, 9
HEAD, DOT = 9, 26
CORNER = 16
# Bends and middles without text are kept straighter than what they are between.
STRAIGHT, LEANING = 8.0, 1.0

Point = tuple[float, float]


@dataclass(slots=True)
class Box:
    """A state: ``x`` is its axis, ``y`` its middle."""

    state: StateBox
    mark: StateMark
    name: tuple[str, ...]
    facts: tuple[str, ...]
    width: float
    height: float
    x: float = 0
    y: float = 0
    loops: list[Line] = field(default_factory=list)

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x + self.width / 2


@dataclass(slots=True)
class Line:
    """An edge: ``path`` is written as SVG has it, ``head`` is the tip of its arrow.

    ``text`` and ``facts`` are lines round ``(x, y)``, the middle of all of them; they begin on the
    same axis where they are ``beside`` a box. ``points`` up, down or left, as the arrow does.
    """

    edge: Edge
    mark: EdgeMark
    text: tuple[str, ...]
    facts: tuple[str, ...]
    path: str = ""
    head: Point = (0, 0)
    points: str = "down"
    x: float = 0
    y: float = 0
    beside: bool = False

    @property
    def width(self) -> float:
        """The width of its text."""
        return max((width_of(each, TEXT_SIZE) for each in (*self.text, *self.facts)), default=0)

    @property
    def height(self) -> float:
        """The height of its text."""
        return TEXT_LINE * (len(self.text) + len(self.facts))


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything in its place."""

    width: float
    height: float
    boxes: list[Box]
    lines: list[Line]


def lay_out(diagram: Diagram, marks: Marks) -> Picture:
    """Put a diagram in order; ``CannotDraw`` is raised where the package for that is missing."""
    boxes = [_box(state, marks) for state in diagram.states]
    number = {box.state.name: index for index, box in enumerate(boxes)}
    lines = []
    for edge in dict.fromkeys(diagram.edges):
        line = _line(edge, marks)
        if edge.target in (None, edge.source):
            boxes[number[edge.source]].loops.append(line)
        else:
            lines.append(line)
    ends = [(number[line.edge.source], number[str(line.edge.target)]) for line in lines]
    width = height = 0.0
    for part in parts_of(len(boxes), ends):
        drawn = _Drawing(part, boxes, lines)
        drawn.place(MARGIN + (width and width + 2 * GAP))
        width, height = drawn.right, max(height, drawn.bottom)
    return Picture(width + MARGIN, height + MARGIN, boxes, lines)


def _box(state: StateBox, marks: Marks) -> Box:
    mark = marks.states.get(state.name, StateMark())
    name = lines_of(state.label, LONGEST_NAME, 2) or (state.name,)
    facts = tuple(line for fact in mark.facts for line in lines_of(fact, LONGEST_TEXT + 6, 2))
    inside = [width_of(each, NAME_SIZE) * 1.05 for each in name]  # it is bold
    inside += [width_of(each, TEXT_SIZE) for each in facts]
    return Box(
        state,
        mark,
        name,
        facts,
        max(LEAST_WIDTH, max(inside) + 2 * PADDING),
        NAME_LINE * len(name) + TEXT_LINE * len(facts) + PADDING,
    )


def _line(edge: Edge, marks: Marks) -> Line:
    mark = marks.edges.get(edge, EdgeMark())
    text = f"[{edge.text}]" if edge.kind == "guard" else edge.text
    facts = tuple(line for fact in mark.facts for line in lines_of(fact, LONGEST_TEXT, 1))
    return Line(edge, mark, lines_of(text, LONGEST_TEXT, 3), facts)


class _Drawing:
    """One part of the diagram, on its way to its place."""

    def __init__(self, part: Part, boxes: list[Box], lines: list[Line]) -> None:
        self.part, self.boxes, self.lines = part, boxes, lines
        self.first_bend = len(boxes) + len(lines)
        self.top: dict[int, float] = {}
        self.bottom_of: dict[int, float] = {}
        self.axis: dict[int, float] = {}
        self.right = self.bottom = 0.0

    def place(self, left: float) -> None:
        """Place everything right of ``left``."""
        extents = {item: self._extents(item) for row in self.part.rows for item in row}
        links = [
            (upper, lower, self._weight(upper, lower))
            for way in self.part.ways.values()
            for upper, lower in zip(way, way[1:], strict=False)
        ]
        columns = [way[1:-1] for way in self.part.ways.values() if len(way) > 3]
        columns.sort(key=len, reverse=True)
        self.axis = axes(self.part.rows, extents, links, GAP, columns)
        shift = left - min(self.axis[item] - extents[item].left for item in self.axis)
        self.axis = {item: round(x + shift, 1) for item, x in self.axis.items()}
        self.right = max(self.axis[item] + extents[item].right for item in self.axis)
        self._stack(links)
        self._draw()

    def _box(self, item: int) -> Box | None:
        return self.boxes[item] if item < len(self.boxes) else None

    def _middle(self, item: int) -> Line | None:
        inside = len(self.boxes) <= item < self.first_bend
        return self.lines[item - len(self.boxes)] if inside else None

    def _weight(self, upper: int, lower: int) -> float:
        plain = sum(self._box(item) is None for item in (upper, lower))
        return STRAIGHT if plain == 2 else LEANING

    def _extents(self, item: int) -> Extents:
        box, line = self._box(item), self._middle(item)
        if box is not None:
            half = box.width / 2
            loops = max((loop.width for loop in box.loops), default=-1)
            return Extents(half, half if loops < 0 else half + LOOP + loops + 8)
        if line is not None and line.width:
            return Extents(line.width / 2 + 4, line.width / 2 + 4)
        return Extents(2, 2)

    def _height(self, item: int) -> float:
        box, line = self._box(item), self._middle(item)
        if box is not None:
            loops = sum(max(loop.height, 6) for loop in box.loops)
            return max(box.height, loops)
        return line.height + 4 if line is not None and line.height else 0

    def _stack(self, links: Sequence[tuple[int, int, float]]) -> None:
        """Rows one below the other; further apart where lines go far to the side."""
        rows = self.part.rows
        row_of = {item: number for number, row in enumerate(rows) for item in row}
        aside = [0.0] * len(rows)
        for upper, lower, _ in links:
            number = row_of[upper]
            aside[number] = max(aside[number], abs(self.axis[upper] - self.axis[lower]))
        begin = MARGIN
        if any(box is not None and box.state.initial for box in map(self._box, rows[0])):
            begin += DOT
        y = float(begin)
        heights = [max(map(self._height, row)) for row in rows]
        for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
            for item in row:
                self.top[item], self.bottom_of[item] = y, y + height
            y += height
            self.bottom = y
            # Of a row of bends alone nothing is seen but the distance to its neighbours.
            empty = 0 in heights[number : number + 2]
            y += (14 if empty else 22) + min(32, aside[number] * 0.2)

    def _draw(self) -> None:
        for item, x in self.axis.items():
            y = (self.top[item] + self.bottom_of[item]) / 2
            box, line = self._box(item), self._middle(item)
            if box is not None:
                box.x, box.y = x, round(y, 1)
                _draw_loops(box)
            elif line is not None:
                line.x, line.y = x, round(y, 1)
        leaving, coming = self._ports(1), self._ports(-1)
        for k, way in self.part.ways.items():
            self._draw_line(self.lines[k], way, leaving[k], coming[k])

    def _ports(self, side: int) -> dict[int, float]:
        """Where the line of each edge meets its upper box (``side`` 1), or its lower one (-1)."""
        beside: dict[int, list[tuple[float, int]]] = {}
        for k, way in self.part.ways.items():
            item, other = (way[0], way[1]) if side > 0 else (way[-1], way[-2])
            beside.setdefault(item, []).append((self.axis[other], k))
        found: dict[int, float] = {}
        for item, others in beside.items():
            others.sort()
            places = _along(self.boxes[item], [x for x, _ in others])
            found.update((k, place) for (_, k), place in zip(others, places, strict=True))
        return found

    def _draw_line(self, line: Line, way: list[int], start: float, end: float) -> None:
        upper, lower = self.boxes[way[0]], self.boxes[way[-1]]
        up = line.edge.source == lower.state.name
        y0, y1 = upper.y + upper.height / 2, lower.y - lower.height / 2
        first, last = y0 + (HEAD if up else 0), y1 - (0 if up else HEAD)
        points = [(start, first, max(first, self.bottom_of[way[0]]))]
        points += [(self.axis[item], self.top[item], self.bottom_of[item]) for item in way[1:-1]]
        points.append((end, min(last, self.top[way[-1]]), last))
        line.path = _path(points)
        line.head = (start, y0) if up else (end, y1)
        line.points = "up" if up else "down"


def _along(box: Box, wanted: Sequence[float]) -> list[float]:
    """Places along the width of a box, as near to those wanted as they fit."""
    room = box.width / 2 - CORNER
    left, right = box.x - room, box.x + room
    gap = min(20, 2 * room / max(len(wanted) - 1, 1))
    within = [min(max(x, left), right) for x in wanted]
    places = spread(within, [1.0] * len(within), [gap] * (len(within) - 1), left, right)
    return [round(place, 1) for place in places]


def _draw_loops(box: Box) -> None:
    """One line that leaves a box on its right and comes back, with the text of all loops beside."""
    x, y = box.right, box.y
    height = sum(max(loop.height, 6) for loop in box.loops)
    at = y - height / 2
    for number, loop in enumerate(box.loops):
        room = max(loop.height, 6)
        loop.x, loop.y = x + LOOP + 4 + loop.width / 2, at + room / 2
        loop.beside = True
        at += room
        if number == 0:
            up, down, out = y - LOOP_HALF, y + LOOP_HALF, x + LOOP
            loop.path = _joined(
                f"M{_n(x)} {_n(up)}",
                f"C{_n(out)} {_n(up - 6)} {_n(out)} {_n(down + 4)} {_n(x + HEAD)} {_n(down)}",
            )
            loop.head, loop.points = (x, down), "left"


def _path(points: Sequence[tuple[float, float, float]]) -> str:
    """Straight within a row, from ``(x, top)`` to ``(x, bottom)``, and in a bow to the next."""
    return _joined(*_pieces(points))


def _pieces(points: Sequence[tuple[float, float, float]]) -> Iterator[str]:
    x, top, bottom = points[0]
    yield f"M{_n(x)} {_n(top)}"
    if bottom > top:
        yield f"V{_n(bottom)}"
    for to, below, end in points[1:]:
        if abs(to - x) < 0.2:
            yield f"V{_n(end)}"
        else:
            middle = (bottom + below) / 2
            yield f"C{_n(x)} {_n(middle)} {_n(to)} {_n(middle)} {_n(to)} {_n(below)}"
            if end > below:
                yield f"V{_n(end)}"
        x, bottom = to, end


def _joined(*pieces: str) -> str:
    return "".join(pieces)


def _n(value: float) -> str:
    """A number as short as it can be written: the same on every machine."""
    return f"{value:.1f}".removesuffix(".0")
