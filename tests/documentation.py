"""The pages of the documentation, as the tests read them."""

from __future__ import annotations

import re

from tests.paths import ROOT

DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    return (DOCS / page).read_text()


def blocks(text: str) -> list[tuple[str, str]]:
    """The Python in a page: ``python`` is executed, ``pycon`` is compared with its output."""
    found = FENCE.findall(text)
    return [(language, code) for language, code in found if language in ("python", "pycon")]


def rows(page: str, header: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``header``, without its two heads."""
    lines = iter(read(page).splitlines())
    assert any(line.startswith(header) for line in lines), f"{page} has no table {header!r}"
    next(lines)
    table: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            return table
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def code_words(cells: list[str]) -> list[str]:
    """The words in backquotes, up to a parenthesis."""
    return [word for cell in cells for word in re.findall(r"`([\w-]+)", cell)]
