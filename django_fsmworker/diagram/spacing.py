"""Where things in a row go: as near as can be to where each wants to be, without touching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

SWEEPS = 10
ROUNDS = 3


@dataclass(slots=True)
class Extents:
    """How far an item reaches from its axis."""

    left: float
    right: float


def spread(
    wanted: Sequence[float],
    weights: Sequence[float],
    gaps: Sequence[float],
    low: float = -inf,
    high: float = inf,
) -> list[float]:
    """Places for things of a row, in their order, at least ``gaps`` apart and within bounds.

    The weighted sum of the squares of what they are off is the least possible: isotonic regression,
    by pooling neighbours that would overtake one another.
    """
    before = [0.0]
    for gap in gaps:
        before.append(before[-1] + gap)
    pools: list[list[float]] = []  # mean, weight, number
    for want, weight, offset in zip(wanted, weights, before, strict=True):
        pools.append([want - offset, weight, 1])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            mean, heavy, number = pools.pop()
            last = pools[-1]
            last[0] = (last[0] * last[1] + mean * heavy) / (last[1] + heavy)
            last[1] += heavy
            last[2] += number
    means = [mean for mean, _, number in pools for _ in range(int(number))]
    high -= before[-1]
    return [
        min(max(mean, low), max(high, low)) + offset
        for mean, offset in zip(means, before, strict=True)
    ]


@dataclass(slots=True)
class Row:
    """The items of one row from left to right, and how near their axes may be."""

    items: list[int]
    gaps: list[float] = field(default_factory=list)


def axes(
    rows: Sequence[Sequence[int]],
    extents: dict[int, Extents],
    links: Sequence[tuple[int, int, float]],
    gap: float,
    columns: Sequence[Sequence[int]] = (),
) -> dict[int, float]:
    """The axis of each item, so that what is linked stands as straight as can be.

    ``links`` lead from an item to one of the next row; the greater their weight, the straighter.
    ``columns`` are items of successive rows that are on one axis where others leave room for it.
    """
    above: dict[int, list[tuple[int, float]]] = {item: [] for row in rows for item in row}
    below: dict[int, list[tuple[int, float]]] = {item: [] for row in rows for item in row}
    for upper, lower, weight in links:
        above[lower].append((upper, weight))
        below[upper].append((lower, weight))
    spaced = [Row(list(row), _gaps(row, extents, gap)) for row in rows]
    place: dict[int, float] = {}
    for row in spaced:  # to begin with, side by side round one axis
        width = sum(row.gaps)
        place.update(zip(row.items, _steps(-width / 2, row.gaps), strict=True))
    for sweep in range(SWEEPS):
        last = sweep >= SWEEPS - 4
        order = spaced if sweep % 2 == 0 else spaced[::-1]
        nearby = above if sweep % 2 == 0 else below
        for row in order:
            _settle(row, place, [above, below] if last else [nearby])
    where = {item: (row, number) for row in spaced for number, item in enumerate(row.items)}
    for _ in range(ROUNDS):
        for column in columns:
            _straighten(column, place, {item: _room(*where[item], place) for item in column})
    return place


def _room(row: Row, number: int, place: dict[int, float]) -> tuple[float, float]:
    """Between which axes an item can be moved while its neighbours stay."""
    low, high, last = -inf, inf, len(row.items) - 1
    if number > 0:
        low = place[row.items[number - 1]] + row.gaps[number - 1]
    if number < last:
        high = place[row.items[number + 1]] - row.gaps[number]
    return low, high


def _straighten(
    column: Sequence[int], place: dict[int, float], room: dict[int, tuple[float, float]]
) -> None:
    """Put as many items as can be on one axis, from the top; where that ends, another begins."""
    run: list[int] = []
    low, high = -inf, inf
    for item in column:
        if run and max(low, room[item][0]) > min(high, room[item][1]):
            _align(run, place, low, high)
            run, low, high = [], -inf, inf
        run.append(item)
        low, high = max(low, room[item][0]), min(high, room[item][1])
    _align(run, place, low, high)


def _align(run: list[int], place: dict[int, float], low: float, high: float) -> None:
    mean = sum(place[each] for each in run) / len(run)
    place.update(dict.fromkeys(run, min(max(mean, low), high)))


def _gaps(row: Sequence[int], extents: dict[int, Extents], gap: float) -> list[float]:
    return [
        extents[one].right + gap + extents[two].left for one, two in zip(row, row[1:], strict=False)
    ]


def _steps(start: float, gaps: Sequence[float]) -> list[float]:
    found = [start]
    for gap in gaps:
        found.append(found[-1] + gap)
    return found


def _settle(
    row: Row, place: dict[int, float], sides: Sequence[dict[int, list[tuple[int, float]]]]
) -> None:
    wanted, weights = [], []
    for item in row.items:
        links = [link for side in sides for link in side[item]]
        weight = sum(weight for _, weight in links)
        if weight:
            wanted.append(sum(place[other] * weight for other, weight in links) / weight)
        else:
            wanted.append(place[item])
        weights.append(weight or 0.1)
    place.update(zip(row.items, spread(wanted, weights, row.gaps), strict=True))
