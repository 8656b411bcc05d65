"""SQLite's errors by their primary result codes, from the list in its documentation."""

from __future__ import annotations

ERROR, BUSY, LOCKED, INTERRUPT, SCHEMA = 1, 5, 6, 9, 17
TRY_AGAIN, CANCELLED = {BUSY, LOCKED, SCHEMA}, {INTERRUPT}
DEADLOCKS: set[int] = set()  # who wants to write waits before the first statement
MISMATCH = ("no such ", "has no column", " columns but ", "cannot modify", "syntax error")
STATEMENT: set[int] = set()  # one code for all of them: told by their words
# No right to open, no memory, read-only, input or output, damaged, full, cannot open, locking
# protocol, no database.
AWAY = {3, 7, 8, 10, 11, 13, 14, 15, 26}


def name_of(error: BaseException) -> int | None:
    """The number by which SQLite names the error, if it was SQLite."""
    extended: int | None = getattr(error.__cause__, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def is_away(code: int) -> bool:
    """Whether the file cannot be used."""
    return code in AWAY


def may_be_mismatch(code: int, words: str) -> bool:
    """Whether a table may not be as the statement expects it: one code for that and much else."""
    return code == ERROR and any(each in words for each in MISMATCH)
