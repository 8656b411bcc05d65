"""The tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.report import tables
from benchmarks.results import Results


def rendered(results: Results) -> str:
    return "\n".join(_parts(results))


def _parts(results: Results) -> Iterator[str]:
    for group, facts in results.facts.items():
        yield f"{group}: " + ", ".join(tables.facts_in_words(facts))
    for title, case in tables.measured(results):
        yield f"\n{case.name}: {title} ({case.seconds:.0f} s, steal {case.steal:.1f} %)"
        if case.error:
            yield f"  failed: {case.error}"
        yield from _aligned(tables.series_table(case))
        for series in case.series:
            yield from (f"  {series.name} ({series.settings}): {it}" for it in series.problems)
    yield "\nwhat has to hold"
    judged = [each for each in tables.lines(results) if each.case in results.cases]
    yield from _aligned(tables.lines_table(judged))


def _aligned(table: tables.Table) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  " + "  ".join(cells).rstrip()
