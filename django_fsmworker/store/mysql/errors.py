"""MariaDB's and MySQL's errors by number: https://mariadb.com/kb/en/mariadb-error-code-reference/.

Both drivers have the number as the first argument of what they raise.
"""

from __future__ import annotations

DEADLOCKS = {1213}  # the whole transaction is rolled back

TRY_AGAIN = DEADLOCKS | {
    1020,  # the row was changed since it was read: MariaDB's snapshot isolation
    1205,  # lock wait timeout
    1412,  # the table's definition has changed since the snapshot
    1637,  # too many active transactions
    3101,  # another member of the replication group has written the same rows
    3572,  # NOWAIT
}

# Of the client library: no connection, or none any more. A closed one is 0.
_CLIENT = {0, *range(2000, 2100)}

_REFUSED_CONNECTION = {
    1040,  # too many connections
    1042,  # no address for the host
    1043,  # handshake
    1044,  # no access to the database
    1045,  # no access
    1049,  # no such database
    1129,  # the host is blocked
    1130,  # the host may not connect
    1203,  # too many connections of this user
    1226,  # this user's resources
    1698,  # no access by socket
    3118,  # the account is locked; MariaDB: 4151
    4151,
}

_LOST_CONNECTION = {
    1053,  # shutdown in progress
    1077,  # normal shutdown
    1079,  # shutdown complete
    1152,  # aborted connection
    1158,  # reading, writing and timeouts of packets, up to 1161
    1159,
    1160,
    1161,
    1184,  # aborted connection
    1927,  # the connection was killed
    4031,  # closed for being idle
}

_WITHOUT_RESOURCES = {
    1021,  # disk full
    1026,  # writing a file
    1030,  # the storage engine's own number, such as 28 for a full disk
    1037,  # out of memory
    1038,  # out of sort memory
    1041,  # out of memory
    1114,  # table full
    1135,  # no thread
    1206,  # more locks than fit
}

_NOT_WRITABLE = {
    1290,  # --read-only
    1792,  # a read-only transaction
    1836,  # read-only mode
    1047,  # a cluster's node that is not ready
}

CANCELLED = {
    1317,  # interrupted
    1969,  # max_statement_time; MySQL: 3024
    3024,
}

# About the statement as it is written, or how long it took, whatever the rows it is about.
STATEMENT = CANCELLED | {
    1054,  # unknown column
    1064,  # syntax
    1146,  # no such table
    1305,  # no such function; 1630, too
    1630,
}

# Names, rights and kinds of tables that are not as the statement expects them.
MISMATCH = {
    1054,  # unknown column
    1064,  # syntax
    1103,  # a wrong name of a table
    1142,  # no right on the table; 1143: on the column
    1143,
    1146,  # no such table
    1288,  # a view that cannot be updated; 1471: inserted into
    1471,
    1305,  # no such function; 1630, too
    1347,  # no view, no base table
    1356,  # a view of something that is not there any more
    1370,  # no right to execute
    1630,
    1292,  # a value of another type; 1366, too
    1366,
}

AWAY = _CLIENT | _REFUSED_CONNECTION | _LOST_CONNECTION | _WITHOUT_RESOURCES | _NOT_WRITABLE


def name_of(error: BaseException) -> int | None:
    """The number by which MariaDB and MySQL name the error, if it was one of them."""
    arguments = getattr(error.__cause__, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def is_away(number: int) -> bool:
    """Whether the server cannot be reached, or can serve nobody."""
    return number in AWAY


def may_be_mismatch(number: int, words: str) -> bool:
    """Whether a table may not be as the statement expects it."""
    return number in MISMATCH
