"""What a database error means for the work at hand."""

from __future__ import annotations

from django.db import DatabaseError, InterfaceError, OperationalError

from django_fsmworker.store.mysql_errors import AWAY_NUMBERS, LOST_NUMBERS, TRY_AGAIN_NUMBERS

DEADLOCK, SERIALIZATION_FAILURE, LOCK_NOT_AVAILABLE = "40P01", "40001", "55P03"
TRY_AGAIN = {DEADLOCK, SERIALIZATION_FAILURE, LOCK_NOT_AVAILABLE}

# A malformed JSON text, a function that raised, a missing table: not a file that is away.
SQLITE_ERROR = 1

# Classes of PostgreSQL's appendix A: connection, resources, shutdown, system; a standby's refusal.
AWAY = ("08", "53", "57P", "58", "25006")


def number(error: BaseException) -> int | None:
    """The number by which MariaDB and MySQL name the error, if it was one of them."""
    arguments = getattr(error.__cause__, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def sqlstate(error: BaseException) -> str | None:
    """The five letters by which PostgreSQL names the error, if it was PostgreSQL."""
    return None if number(error) is not None else getattr(error.__cause__, "sqlstate", None)


def is_statement(error: BaseException) -> bool:
    """SQLite cannot carry out this very statement: what it calls SQL logic error."""
    return getattr(error.__cause__, "sqlite_errorcode", None) == SQLITE_ERROR


def is_contention(error: BaseException) -> bool:
    """The same statement may well succeed in a moment."""
    busy = isinstance(error, OperationalError) and "locked" in str(error)
    code = number(error)
    if code is not None:
        return code in TRY_AGAIN_NUMBERS
    return busy or sqlstate(error) in TRY_AGAIN


def is_outage(error: BaseException) -> bool:
    """The database is away or cannot serve anybody; the statement itself is not to blame."""
    state, code = sqlstate(error), number(error)
    if code is not None:
        return code in AWAY_NUMBERS
    if state is not None:
        return state.startswith(AWAY)
    known = isinstance(error, OperationalError | InterfaceError)
    return known and not is_contention(error) and not is_statement(error)


def is_lost(error: BaseException | None) -> bool:
    """MariaDB or MySQL ended the connection under a statement, and that led to this error.

    (psycopg's connections know by themselves that they are broken.)
    """
    while error is not None:
        if isinstance(error, DatabaseError | InterfaceError) and number(error) in LOST_NUMBERS:
            return True
        error = error.__cause__ or error.__context__
    return False


def is_refusal(error: BaseException) -> bool:
    """The database refused this very data: a constraint, a trigger, a value out of range."""
    return isinstance(error, DatabaseError) and not (is_outage(error) or is_contention(error))
