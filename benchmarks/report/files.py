"""The files that the documentation shows, beside the JSON that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.report import page, plot
from benchmarks.results import Results

FILES: dict[str, Callable[[Results], str]] = {
    "results.md": page.rendered,
    "plot.svg": plot.rendered,
}


def write(results: Results, folder: Path) -> None:
    """Write each of them anew."""
    for name, rendered in FILES.items():
        (folder / name).write_text(rendered(results))
