"""Who stands above whom in a diagram, and who beside whom: the ranks of its parts.

The order is fast-sugiyama's. It ends the whole process on an edge from a node to itself, so it gets
no cycle of any length, no edge twice, and nodes that are numbered without gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django_fsmworker.exceptions import FSMWorkerError

Ends = tuple[int, int]

MISSING = (
    "Drawing a graph takes the package fast-sugiyama: install django-fsmworker[diagrams], or "
    "choose another format."
)


class CannotDraw(FSMWorkerError):
    """The package that lays diagrams out is not installed."""

    def __init__(self) -> None:
        super().__init__(MISSING)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a diagram that hangs together.

    ``rows`` are its items from top to bottom, each row from left to right. Items are the nodes,
    ``0 … number - 1``; the middle of each edge ``k``, which is ``number + k``; and bends, which
    have higher numbers. ``ways`` has the items of each edge from top to bottom, with its ends.
    """

    rows: list[list[int]]
    ways: dict[int, list[int]]


def parts_of(number: int, edges: Sequence[Ends]) -> list[Part]:
    """The parts of a graph of so many nodes, in their order; no edge may lead to its own node."""
    turned = turned_edges(number, edges)
    ends = [(t, s) if k in turned else (s, t) for k, (s, t) in enumerate(edges)]
    bends = number + len(edges)
    parts = []
    for nodes in _components(number, ends):
        inside = {k: each for k, each in enumerate(ends) if each[0] in nodes}
        part = _part(sorted(nodes), number, inside, bends)
        bends = max(bends, 1 + max(item for row in part.rows for item in row))
        parts.append(part)
    return parts


def turned_edges(number: int, edges: Sequence[Ends]) -> set[int]:
    """The edges that lead back to where a walk from the first node came from.

    Without them, or with each of them turned round, the graph has no cycle.
    """
    out: list[list[tuple[int, int]]] = [[] for _ in range(number)]
    for k, (source, target) in enumerate(edges):
        out[source].append((k, target))
    fresh, open_, done = 0, 1, 2
    colour, found = [fresh] * number, set()
    for root in range(number):
        if colour[root] != fresh:
            continue
        colour[root] = open_
        walk: list[tuple[int, Iterator[tuple[int, int]]]] = [(root, iter(out[root]))]
        while walk:
            node, further = walk[-1]
            k, target = next(further, (-1, -1))
            if k < 0:
                colour[node] = done
                walk.pop()
            elif colour[target] == open_:
                found.add(k)
            elif colour[target] == fresh:
                colour[target] = open_
                walk.append((target, iter(out[target])))
    return found


def _components(number: int, edges: Sequence[Ends]) -> list[set[int]]:
    """The nodes that edges connect, whichever way these lead."""
    beside: list[list[int]] = [[] for _ in range(number)]
    for source, target in edges:
        beside[source].append(target)
        beside[target].append(source)
    found: list[set[int]] = []
    seen: set[int] = set()
    for root in range(number):
        if root in seen:
            continue
        reached, waiting = {root}, [root]
        while waiting:
            for other in beside[waiting.pop()]:
                if other not in reached:
                    reached.add(other)
                    waiting.append(other)
        seen |= reached
        found.append(reached)
    return found


def _part(nodes: list[int], number: int, edges: dict[int, Ends], bends: int) -> Part:
    if not edges:  # the library places no node without an edge
        return Part([nodes], {})
    items = [*nodes, *(number + k for k in edges)]
    small = {item: index for index, item in enumerate(items)}
    halves = [
        each
        for k, (source, target) in edges.items()
        for each in ((small[source], small[number + k]), (small[number + k], small[target]))
    ]
    places, links = _laid_out(halves)

    def item(index: int) -> int:
        return items[index] if index < len(items) else bends + index - len(items)

    by_height: dict[float, list[tuple[float, int]]] = {}
    for index, (x, y) in places:
        by_height.setdefault(y, []).append((x, item(index)))
    rows = [[each for _, each in sorted(by_height[y])] for y in sorted(by_height, reverse=True)]
    after = {item(a): item(b) for a, b in links if a >= len(nodes)}
    before = {item(b): item(a) for a, b in links if b >= len(nodes)}
    return Part(rows, {k: _way(number + k, number, before, after) for k in edges})


def _laid_out(edges: list[Ends]) -> tuple[list[tuple[int, tuple[float, float]]], list[Ends]]:
    """The places of all nodes and bends, and the edges with those between."""
    try:
        from fast_sugiyama import from_edges
    except ImportError as missing:
        raise CannotDraw from missing
    found: Any = from_edges(edges, dummy_vertices=True, ranking_type="minimize")
    [(places, _, _, links)] = found
    return list(places), list(links)


def _way(middle: int, number: int, before: dict[int, int], after: dict[int, int]) -> list[int]:
    """The items of an edge from top to bottom: bends are on one edge each."""
    way = [middle]
    while way[0] >= number:
        way.insert(0, before[way[0]])
    while way[-1] >= number:
        way.append(after[way[-1]])
    return way
