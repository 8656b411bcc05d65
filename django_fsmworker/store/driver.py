"""What a database's driver can do with one connection, beyond what Django asks of it.

A connection is Django's wrapper of it, ``connections[alias]``.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from typing import Any, ClassVar

from django.db import Error

# What a statement begins with, behind blanks, brackets and comments; and what follows it.
BEGINNING = re.compile(r"(?:[\s(]|/\*.*?\*/|--[^\n]*\n)*(\w+)\s*(\w*)", re.DOTALL)

# Statements of any database that leave nothing behind once their transaction has ended.
HARMLESS = frozenset(
    [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "WITH",
        "VALUES",
        "BEGIN",
        "START",
        "COMMIT",
        "ROLLBACK",
        "END",
        "SAVEPOINT",
        "RELEASE",
        "EXPLAIN",
        "SHOW",
        "ANALYZE",
    ]
)

# What follows ROLLBACK where it does not end its transaction.
TO_SAVEPOINT = re.compile(r"\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b", re.IGNORECASE)

# Statements that write no rows, of any database.
READING = frozenset({"SELECT", "VALUES", "SHOW", "SAVEPOINT", "RELEASE", "ROLLBACK"})

# What may leave something behind within a harmless one: settings, locks, variables, a second one.
LASTING = re.compile(
    r"set_config|setseed|advisory_(?:un)?lock|dblink_|get_lock|load_extension|:=|\binto\s+(?:@|temp)"
    r"|;\s*\S",
    re.IGNORECASE,
)


def first_word(sql: str) -> str:
    """The word with which a statement begins, in capitals; empty if it begins with none."""
    found = BEGINNING.match(sql)
    return "" if found is None else found[1].upper()


class Driver:
    """A driver of which nothing is known: each database that a runner knows has its own."""

    # Further words with which harmless statements begin, and words that make a SET harmless.
    harmless: ClassVar[frozenset[str]] = frozenset()
    harmless_set: ClassVar[frozenset[str]] = frozenset({"TRANSACTION"})

    # Words with which statements begin that end the transaction in which they are sent.
    ending: ClassVar[frozenset[str]] = frozenset({"COMMIT"})

    # Whether connecting may take longer than a runner can wait, unless it is told not to.
    connects_to_server = False

    def changes_session(self, sql: str) -> bool:
        """Whether a statement may leave something in its session: a setting, a lock, a table.

        What is not known to leave nothing behind may; what a function does inside is not seen.
        """
        found = BEGINNING.match(sql)
        if found is None:
            return True
        first, second = found[1].upper(), found[2].upper()
        if first == "SET":
            return second not in self.harmless_set or LASTING.search(sql) is not None
        if first not in HARMLESS and first not in self.harmless:
            return True
        return LASTING.search(sql) is not None

    def changes_transaction(self, sql: str) -> bool:
        """Whether it may leave something for the rest of its transaction, or in its session."""
        return first_word(sql) in ("", "SET") or self.changes_session(sql)

    def may_write(self, sql: str) -> bool:
        """Whether a statement may write rows; what a function does inside is not seen."""
        return first_word(sql) not in READING

    def ends_transaction(self, sql: str) -> bool:
        """Whether a statement ends the transaction in which it is sent.

        A second one in the same text, and what a procedure does inside, are not seen.
        """
        found = BEGINNING.match(sql)
        if found is None:
            return False
        if found[1].upper() == "ROLLBACK":
            return TO_SAVEPOINT.match(sql, found.end(1)) is None
        return found[1].upper() in self.ending

    def commits_by_the_way(self, sql: str) -> bool:
        """Whether a statement that does something else ends the transaction first."""
        return False

    def limit_connecting(self, wrapper: Any, seconds: float) -> None:
        """Let this connection, before it is opened, give up opening after so many ``seconds``."""

    def open_undisturbed(self, wrapper: Any) -> None:
        """Let this connection, before it is opened, leave nothing open if it is not to be opened.

        An exception that is injected into the thread that opens it is meant.
        """

    def read_committed(self, wrapper: Any) -> None:
        """Let transactions on this connection, before it is opened, be at READ COMMITTED."""

    def limit_statements(self, wrapper: Any, seconds: float) -> None:
        """Let the server end statements on this connection, before it is opened, by itself.

        None of a process that is gone then runs for longer than ``seconds``. A shorter limit of the
        project's own stays.
        """

    def is_in_transaction(self, wrapper: Any) -> bool:
        """Whether a transaction is open, also one begun behind Django's back."""
        return False

    def is_closed(self, wrapper: Any) -> bool:
        """Whether a connection was closed behind Django's back, or is known to have ended."""
        return False

    def cancel(self, wrapper: Any) -> None:
        """End the statement that another thread waits for, if the driver has a way to."""

    def stop_reading(self, wrapper: Any) -> None:
        """Leave the connection usable after an answer that could not be read to its end."""

    def discard(self, wrapper: Any) -> None:
        """Close the connection, whatever state it is in."""
        if wrapper.connection is None:
            return
        wrapper.in_atomic_block = False
        wrapper.savepoint_ids = []
        wrapper.atomic_blocks = []
        wrapper.needs_rollback = False
        wrapper.run_on_commit = []
        with suppress(Error):  # a driver may refuse to close a connection twice
            wrapper.close()

    def cut(self, wrapper: Any) -> bool:
        """End whatever another thread waits for on its connection; False if there is no way to.

        Shutting the socket down is safe beside the driver: it reads that the server has gone.
        """
        raw = wrapper.connection
        with suppress(wrapper.Database.Error, OSError):  # it was closed meanwhile
            if (number := self.socket_number(raw)) is not None:
                with socket.socket(fileno=os.dup(number)) as same:
                    if self.socket_number(raw) == number:  # otherwise it may be somebody else's
                        same.shutdown(socket.SHUT_RDWR)
                        return True
        return False

    def socket_number(self, raw: Any) -> int | None:
        """The number of the socket of the driver's own connection; None if it has none."""
        return raw.fileno() if hasattr(raw, "fileno") else None
