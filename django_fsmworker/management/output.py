"""What a command prints: tables and lines for people, JSON for programs."""

from __future__ import annotations

import codecs
import json
import os
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from django_fsmworker.logs import shown

NOTHING = "-"
GAP = "  "
# What a table of rich has beside the text of each column.
BORDERS = 3


class Output:
    """Writes to ``stream``; with ``as_json`` data only, and no lines.

    Keys and messages are data, so what would end a line or steer a terminal is escaped, and what
    the stream's encoding has no letters for.
    """

    def __init__(self, stream: Any, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.stream = stream
        self._encoding = codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name

    def data(self, data: Any) -> None:
        """Write ``data`` if JSON is asked for."""
        if self.as_json:
            in_ascii = not self._encoding.startswith("utf")
            self._write(json.dumps(data, cls=_Encoder, indent=2, ensure_ascii=in_ascii))

    def line(self, text: str = "") -> None:
        """Write a line for people."""
        if not self.as_json:
            self._write(str(shown(text)))

    def text(self, text: str) -> None:
        """Write lines that are no data, as they are."""
        if not self.as_json:
            self._write(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a table for people: by rich, if that is installed and this is a terminal.

        On a terminal that is too narrow for it each row is a sentence with the names of columns.
        """
        if self.as_json:
            return
        texts = [[self._letters(str(shown(_cell(value)))) for value in row] for row in rows]
        room = shutil.get_terminal_size().columns if self.stream.isatty() else None
        widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
        if room is not None and sum(widths) + BORDERS * len(widths) < room:
            if _draw_richly(self.stream, columns, texts):
                return
        lines: Iterable[str] = _aligned([columns, *texts], widths)
        if room is not None and sum(widths) + len(GAP) * (len(widths) - 1) > room:
            lines = _wrapped(columns, texts, room)
        for line in lines:
            self._write(line)

    def flush(self) -> None:
        """Hand on what was written; nothing goes wrong if nobody reads it, as behind ``head``."""
        with self._heard_or_not():
            self.stream.flush()

    def _write(self, text: str) -> None:
        with self._heard_or_not():
            self.stream.write(f"{self._letters(text)}\n")

    def _letters(self, text: str) -> str:
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    @contextmanager
    def _heard_or_not(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # what was done is done; Python tries once more at its end
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())


def _cell(value: Any) -> Any:
    return NOTHING if value is None else value


def _aligned(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterable[str]:
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield GAP.join(cells).rstrip()


def _wrapped(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> Iterable[str]:
    for row in rows:
        cells = zip(columns, row, strict=True)
        text = ", ".join(f"{column} {cell}" for column, cell in cells if cell != NOTHING)
        yield from textwrap.wrap(text, room, subsequent_indent=GAP, break_on_hyphens=False)


def _draw_richly(stream: Any, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Draw the table with rich; False where that is not installed."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=stream).print(table)
    return True


class _Encoder(DjangoJSONEncoder):
    """What Django knows no JSON for is written as its text: a key of a kind of its own."""

    def default(self, o: Any) -> Any:
        try:
            return super().default(o)
        except TypeError:
            return str(o)
