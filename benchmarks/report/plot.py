"""The plot: who drains how fast, and what is left of our drain when something is in its way."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.contenders.engine import NAME as ENGINE
from benchmarks.report import svg
from benchmarks.report.tables import lines, number
from benchmarks.requirements import Line, Verdict
from benchmarks.results import Results, Series
from benchmarks.statistics import median

WIDTH, LABELS, RIGHT = 780, 310, 90
ROW, BAR, HEAD, GAP = 22, 13, 34, 24
SCALE = WIDTH - LABELS - RIGHT


def rendered(results: Results) -> str:
    """The SVG file's text."""
    rates = _rates(results)
    ratios = [each for each in lines(results) if each.value is not None and _is_ratio(each)]
    parts = list(_rate_panel(rates, 0))
    top = HEAD + ROW * len(rates) + GAP
    parts += _ratio_panel(ratios, top)
    height = top + HEAD + ROW * len(ratios) + GAP
    return svg.document(WIDTH, height, "Drain rates, and the ratios that have to hold", parts)


def _rates(results: Results) -> list[Series]:
    drain = results.cases.get("drain")
    series = [each for each in drain.series if each.values] if drain else []
    return sorted(series, key=lambda each: -median(each.values))


def _is_ratio(line: Line) -> bool:
    """Those where more is better: a bar that reaches its mark holds."""
    return line.target.startswith("at least") and line.target.split()[3] == "x"


def _rate_panel(rates: list[Series], top: float) -> Iterator[str]:
    most = max((max(each.values) for each in rates), default=1.0)
    yield svg.text(0, top + 16, "Drain, rows or jobs per second (the line: slowest to fastest run)")
    for place, each in enumerate(rates):
        y, middle = top + HEAD + ROW * place, median(each.values)
        yield svg.text(LABELS - 8, y + 11, f"{each.name}, {each.settings}", anchor="end")
        yield svg.bar(LABELS, y, SCALE * middle / most, BAR, _colour(each))
        slowest, fastest = (LABELS + SCALE * f(each.values) / most for f in (min, max))
        yield svg.line(slowest, y + BAR / 2, fastest, y + BAR / 2, svg.INK, 1.5)
        yield svg.text(fastest + 6, y + 11, number(middle))


def _colour(series: Series) -> str:
    if series.name == ENGINE:
        return svg.OURS
    return svg.OTHERS if series.peer else svg.FLOOR


def _ratio_panel(ratios: list[Line], top: float) -> Iterator[str]:
    most = max((max(each.value or 0, each.limit) for each in ratios), default=1.0)
    yield svg.text(0, top + 16, "Ratios that have to hold (the mark: the limit)")
    for place, each in enumerate(ratios):
        y, value = top + HEAD + ROW * place, each.value or 0.0
        colour = svg.GOOD if each.verdict is Verdict.HOLDS else svg.BAD
        limit = LABELS + SCALE * each.limit / most
        end = LABELS + SCALE * value / most
        yield svg.text(LABELS - 8, y + 11, each.what, anchor="end")
        yield svg.bar(LABELS, y, SCALE * value / most, BAR, colour)
        yield svg.line(limit, y - 3, limit, y + BAR + 3, svg.INK, 2)
        yield svg.text(max(end, limit) + 6, y + 11, f"{value:.2f} x")
