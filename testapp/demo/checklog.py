"""
A note of every check that began, written by the check itself, outside the database.

It tells apart what a killed runner had only claimed from what it had in the middle of a check. One
short line goes out in one append, which a kill cannot cut in two.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

VARIABLE = "DEMO_CHECK_LOG"

# A row and the token of the claim under which it was run.
Begun: TypeAlias = tuple[int, int]


def note_begin(row: Any) -> None:
    """Note that the check of `row` begins, if a demo asks for it."""
    if path := os.environ.get(VARIABLE):
        os.write(_appending(path), f"{row.pk} {row.state_claim}\n".encode())


def read(path: Path) -> list[Begun]:
    """All that began so far, in that order."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [(int(pk), int(token)) for pk, token in map(str.split, lines)]


@cache
def _appending(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
