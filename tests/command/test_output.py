"""What a command prints."""

from __future__ import annotations

import json
import os
import sys
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any
from uuid import UUID

import pytest

from django_fsmworker.management.output import Output

pytestmark = pytest.mark.once

COLUMNS = ("state", "rows")
ROWS = [("new", 12), ("a\nb", None)]


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_is_aligned() -> None:
    stream = StringIO()

    Output(stream).table(COLUMNS, ROWS)

    assert stream.getvalue() == "state  rows\nnew    12\na\\nb   -\n"


def test_a_table_on_a_terminal_is_drawn_by_rich() -> None:
    pytest.importorskip("rich")
    stream = Terminal()

    Output(stream).table(COLUMNS, [("[red]x", 1)])

    assert "┏━━" in stream.getvalue()
    assert "[red]x" in stream.getvalue()


def test_a_table_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    stream = Terminal()

    Output(stream).table(COLUMNS, ROWS[:1])

    assert stream.getvalue() == "state  rows\nnew    12\n"


@pytest.mark.parametrize(
    ("room", "written"),
    [
        (23, "state    rows  due\nwaiting  12    -\n"),  # rich's borders would not fit
        (14, "state waiting,\n  rows 12\n"),
    ],
)
def test_a_table_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, room: int, written: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(room))
    stream = Terminal()

    Output(stream).table((*COLUMNS, "due"), [("waiting", 12, None)])

    assert stream.getvalue() == written


@pytest.mark.parametrize(
    ("value", "written"),
    [({"a": 1}, {"a": 1}), (UUID(int=1), str(UUID(int=1))), (object, "<class 'object'>")],
)
def test_json(value: Any, written: Any) -> None:
    stream = StringIO()
    out = Output(stream, as_json=True)

    out.data(value)
    out.line("no line")
    out.text("no text")
    out.table(COLUMNS, ROWS)

    assert json.loads(stream.getvalue()) == written


def test_a_line_stays_one() -> None:
    stream = StringIO()

    Output(stream).line("a\x1b[0m\nb")

    assert stream.getvalue() == "a\\x1b[0m\\nb\n"


class TestAnEncodingWithoutTheLetters:
    @pytest.fixture
    def stream(self) -> TextIOWrapper:
        return TextIOWrapper(BytesIO(), "ascii", newline="", write_through=True)

    def test_lines_and_tables(self, stream: TextIOWrapper) -> None:
        out = Output(stream)
        out.line("ü")
        out.table(["key", "rows"], [["☃", 1]])

        assert _bytes_of(stream) == b"\\xfc\nkey     rows\n\\u2603  1\n"

    def test_json(self, stream: TextIOWrapper) -> None:
        Output(stream, as_json=True).data("ü")

        assert json.loads(_bytes_of(stream)) == "ü"


def test_nobody_reads_on() -> None:
    """As behind ``head``: the command goes on to its end, and has its exit code."""
    reader, writer = os.pipe()
    os.close(reader)

    with open(writer, "w") as stream:
        out = Output(stream)
        out.line("x" * 100_000)
        out.line("y")
        out.flush()


def _bytes_of(stream: TextIOWrapper) -> bytes:
    buffer = stream.buffer
    assert isinstance(buffer, BytesIO)
    return buffer.getvalue()
