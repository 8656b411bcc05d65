"""PostgreSQL's errors by their five letters: its manual, appendix A."""

from __future__ import annotations

DEADLOCK, SERIALIZATION_FAILURE, LOCK_NOT_AVAILABLE = "40P01", "40001", "55P03"
TRY_AGAIN = {DEADLOCK, SERIALIZATION_FAILURE, LOCK_NOT_AVAILABLE}
DEADLOCKS = {DEADLOCK}
CANCELLED = {"57014"}
STATEMENT = CANCELLED  # and what Django calls a ProgrammingError

# Whole classes, a standby's refusal, transactions that the server ended with their connections:
# connection, resources, shutdown, system.
AWAY = ("08", "53", "57P", "58", "25006", "25P03", "25P04")

# Whole classes: syntax, names and rights; schemas; what a table of this kind cannot do.
MISMATCH = ("42", "3F", "0A000", "55000")

# The server does not know the prepared statement, knows another one by its name, or what it returns
# has changed.
STALE_PLAN = {"26000", "42P05", "0A000"}


def name_of(error: BaseException) -> str | None:
    """The five letters by which PostgreSQL names the error, if it was PostgreSQL."""
    return getattr(error.__cause__, "sqlstate", None)


def is_away(state: str) -> bool:
    """Whether the server cannot be reached, or can serve nobody."""
    return state.startswith(AWAY)


def may_be_mismatch(state: str, words: str) -> bool:
    """Whether a table may not be as the statement expects it."""
    return state.startswith(MISMATCH)
