"""The live view; the only module that needs rich."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from testapp.demo.counts import Counts

MEANING = {
    "found": "to be fingerprinted",
    "fingerprinted": "to be archived",
    "copied": "copy to be read back and compared",
    "twin": "same content as another file, which is not archived yet",
    "archived": "copy compared",
    "duplicate": "same content as an archived file",
    "failed": "given up, reason on record",
}
STYLES = {"archived": "green", "duplicate": "cyan", "failed": "red"}


class LiveView:
    """Redraws itself at the bottom of the screen; lines printed meanwhile stay above it."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live: Live | None = None

    def print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    def update(self, counts: Counts) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(_view(counts), refresh=True)

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _view(counts: Counts) -> RenderableType:
    return Group(_bar(counts), _states(counts))


def _bar(counts: Counts) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    share = counts.ended / counts.total
    line.add_row(
        Text("Files", style="bold"),
        ProgressBar(total=counts.total, completed=counts.ended, width=30, finished_style="green"),
        Text(f"{counts.ended:,} of {counts.total:,}"),
        Text(f"{share:.0%}", style="bold"),
        Text(f"{counts.rate:,.0f} rows/s"),
        Text(f"{counts.elapsed:.1f} s", style="dim"),
    )
    return line


def _states(counts: Counts) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", min_width=8)
    table.add_column(style="dim")
    for name, number in counts.states.items():
        style = STYLES.get(name, "yellow") if number else "dim"
        table.add_row(Text(f"  {name}", style=style), f"{number:,}", MEANING[name])
    return table
