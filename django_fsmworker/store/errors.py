"""What a database error means for the work at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.db import DatabaseError, Error, InterfaceError, OperationalError

from django_fsmworker.store.mysql_errors import (
    AWAY_NUMBERS,
    CANCELLED_NUMBERS,
    TRY_AGAIN_NUMBERS,
)

DEADLOCK, SERIALIZATION_FAILURE, LOCK_NOT_AVAILABLE = "40P01", "40001", "55P03"
TRY_AGAIN = {DEADLOCK, SERIALIZATION_FAILURE, LOCK_NOT_AVAILABLE}
QUERY_CANCELED = "57014"

# Classes of PostgreSQL's appendix A: connection, resources, shutdown, system; a standby's refusal.
AWAY = ("08", "53", "57P", "58", "25006")

# SQLite's primary result codes, from the list in its documentation.
SQLITE_BUSY, SQLITE_LOCKED, SQLITE_INTERRUPT = 5, 6, 9
# No memory, read-only, input or output, full, cannot open, locking protocol.
SQLITE_AWAY = {7, 8, 10, 13, 14, 15}


def number(error: BaseException) -> int | None:
    """The number by which MariaDB and MySQL name the error, if it was one of them."""
    arguments = getattr(error.__cause__, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def sqlstate(error: BaseException) -> str | None:
    """The five letters by which PostgreSQL names the error, if it was PostgreSQL."""
    return None if number(error) is not None else getattr(error.__cause__, "sqlstate", None)


def sqlite_code(error: BaseException) -> int | None:
    """The number by which SQLite names the error, if it was SQLite."""
    extended: int | None = getattr(error.__cause__, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def is_contention(error: BaseException) -> bool:
    """The same statement may well succeed in a moment."""
    return (
        sqlstate(error) in TRY_AGAIN
        or number(error) in TRY_AGAIN_NUMBERS
        or sqlite_code(error) in (SQLITE_BUSY, SQLITE_LOCKED)
    )


def is_cancelled(error: BaseException) -> bool:
    """Somebody ended the statement, or it took longer than the database lets statements take."""
    return (
        sqlstate(error) == QUERY_CANCELED
        or number(error) in CANCELLED_NUMBERS
        or sqlite_code(error) == SQLITE_INTERRUPT
    )


def is_outage(error: BaseException) -> bool:
    """The database is away or cannot serve anybody; the statement itself is not to blame."""
    if (code := number(error)) is not None:
        return code in AWAY_NUMBERS
    if (state := sqlstate(error)) is not None:
        return state.startswith(AWAY)
    if (code := sqlite_code(error)) is not None:
        return code in SQLITE_AWAY
    return isinstance(error, OperationalError | InterfaceError)


def is_refusal(error: BaseException) -> bool:
    """The database refused this very data: a constraint, a trigger, a value out of range."""
    excused = is_outage(error) or is_contention(error) or is_cancelled(error)
    return isinstance(error, DatabaseError) and not excused


def tells_of(error: BaseException, kind: Callable[[BaseException], bool]) -> bool:
    """Whether such a database error is behind an exception, however often it was wrapped."""
    return any(isinstance(each, Error) and kind(each) for each in chain(error))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and those it was raised from."""
    known: set[int] = set()
    while error is not None and id(error) not in known:
        known.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
