"""What a database error means for the work at hand: one of six classes.

* outage: the database is away or can serve nobody;
* contention: the same statement may well succeed in a moment;
* cancelled: somebody, or the database's own limit, ended the statement;
* refusal: the database refused this very data;
* blaming the statement: it is wrong or too slow as it is written, whatever rows it is about;
* perhaps a mismatch: a table, a column, a type or a right is not there as the statement expects it.

Each database names its errors in its own way; what the names mean is listed in its package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db import (
    DatabaseError,
    Error,
    InterfaceError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)

from django_fsmworker.store.mysql import errors as mysql
from django_fsmworker.store.postgresql import errors as postgresql
from django_fsmworker.store.sqlite import errors as sqlite

# Modules that say the same: what the database calls an error, and the names of each class. In this
# order: a driver of MariaDB and MySQL may give its errors a SQLSTATE, too.
DATABASES: tuple[Any, ...] = (mysql, postgresql, sqlite)


def _named(error: BaseException) -> tuple[Any, Any] | None:
    """The module of the database that the error is from, and its name there, or None."""
    for database in DATABASES:
        if (name := database.name_of(error)) is not None:
            return database, name
    return None


def _is_listed(error: BaseException, names: str) -> bool:
    """Whether the database that the error is from lists its name under ``names``."""
    named = _named(error)
    return named is not None and named[1] in getattr(named[0], names)


def is_contention(error: BaseException) -> bool:
    """Whether the same statement may well succeed in a moment."""
    return _is_listed(error, "TRY_AGAIN")


def is_deadlock(error: BaseException) -> bool:
    """Whether the database ended the transaction since it and another waited for each other."""
    return _is_listed(error, "DEADLOCKS")


def is_cancelled(error: BaseException) -> bool:
    """Whether the statement was ended by somebody, or by the database's limit of time."""
    return _is_listed(error, "CANCELLED")


def is_outage(error: BaseException) -> bool:
    """Whether the database is away or can serve nobody; the statement itself is not to blame."""
    named = _named(error)
    if named is None:
        return isinstance(error, OperationalError | InterfaceError)
    return bool(named[0].is_away(named[1]))


def is_refusal(error: BaseException) -> bool:
    """Whether the database refused this very data: a constraint, a trigger, an overflow."""
    excused = is_outage(error) or is_contention(error) or is_cancelled(error)
    return isinstance(error, DatabaseError) and not excused


def blames_statement(error: BaseException) -> bool:
    """Whether the statement is wrong or too slow as it is written, whatever rows it is about.

    So is one that Django could not even send: what is no database error comes from its terms.
    """
    if not isinstance(error, DatabaseError):
        return True
    listed = _is_listed(error, "STATEMENT")
    unknown = str(error).startswith("no such ")  # a table, a column or a function, says SQLite
    return isinstance(error, ProgrammingError | NotSupportedError) or listed or unknown


def may_be_mismatch(error: BaseException) -> bool:
    """Whether a table may not be as the statement expects it; ``Store.mismatch`` tells for sure.

    A trigger or a guard may stumble over another table, in the same words.
    """
    if not is_refusal(error):
        return False
    named = _named(error)
    if named is None:
        return isinstance(error, ProgrammingError | NotSupportedError)
    return bool(named[0].may_be_mismatch(named[1], str(error)))


def tells_of(error: BaseException, is_such: Callable[[BaseException], bool]) -> bool:
    """Whether such a database error is behind an exception, however often it was wrapped."""
    return any(isinstance(each, Error) and is_such(each) for each in chain(error))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and those it was raised from."""
    known: set[int] = set()
    while error is not None and id(error) not in known:
        known.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
