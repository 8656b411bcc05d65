"""What a proxy understands of the protocol between a client and its database.

No more than it has to: what a query says, and when its answer is complete.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Protocol


class Wire(Protocol):
    """One connection's; both directions are fed as they come."""

    def queries(self, data: bytes) -> Iterator[bytes]:
        """Those whose last byte the client has sent now."""

    def answered(self, data: bytes) -> bool:
        """Whether the server has said all there is to say to a query now."""


class PostgreSQLWire:
    """PostgreSQL's manual, "Message Formats"."""

    _SIMPLE, _PARSE, _BIND = b"Q", b"P", b"B"
    _READY = b"Z"

    def __init__(self) -> None:
        # The first message of a client has no kind.
        self._asked, self._said = Messages(untyped=1), Messages()
        self._prepared: dict[bytes, bytes] = {}

    def queries(self, data: bytes) -> Iterator[bytes]:
        for kind, body in self._asked.feed(data):
            if kind == self._SIMPLE:
                yield body
            elif kind == self._PARSE:
                name, sql, _ = body.split(b"\0", 2)
                self._prepared[name] = sql
            elif kind == self._BIND:  # parsed just now, or long ago
                _, name, _ = body.split(b"\0", 2)
                yield self._prepared[name]

    def answered(self, data: bytes) -> bool:
        return self._READY in [kind for kind, _ in self._said.feed(data)]


class Messages:
    """Cuts a stream into messages; the first ``untyped`` ones have no kind."""

    def __init__(self, untyped: int = 0) -> None:
        self._untyped = untyped
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every message that is complete now: its kind and its body."""
        self._buffer += data
        while True:
            head = 0 if self._untyped else 1
            if len(self._buffer) < head + 4:
                return
            (length,) = struct.unpack_from("!i", self._buffer, head)
            if len(self._buffer) < head + length:
                return
            kind, body = self._buffer[:head], self._buffer[head + 4 : head + length]
            self._buffer = self._buffer[head + length :]
            self._untyped = max(0, self._untyped - 1)
            yield kind, body


class MySQLWire:
    """MariaDB's and MySQL's: https://mariadb.com/kb/en/clientserver-protocol/, "Text Protocol".

    An answer is one packet, OK or an error; or rows: columns, an end, the rows, another end. (The
    drivers in Python do not ask for the newer way, which leaves out the first end.)
    """

    _QUERY = b"\x03"
    _OK, _END, _ERROR = b"\x00", b"\xfe", b"\xff"
    _LONGEST_END = 8  # a longer packet that begins like one is a row

    def __init__(self) -> None:
        self._asked, self._said = Packets(), Packets()
        self._packets = self._ends = 0

    def queries(self, data: bytes) -> Iterator[bytes]:
        for number, body in self._asked.feed(data):
            if number:  # of the handshake
                continue
            self._packets = self._ends = 0
            if body[:1] == self._QUERY:
                yield body[1:]

    def answered(self, data: bytes) -> bool:
        return True in [self._is_last(body) for _, body in self._said.feed(data)]

    def _is_last(self, body: bytes) -> bool:
        kind, self._packets = body[:1], self._packets + 1
        if kind == self._END and len(body) <= self._LONGEST_END:
            self._ends += 1
            return self._ends == 2
        return kind == self._ERROR or (kind == self._OK and self._packets == 1)


class Packets:
    """Cuts a stream into packets: each has its length and its number before it."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Every packet that is complete now: its number in the exchange, and its body."""
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:3], "little")
            if len(self._buffer) < end:
                return
            number, body = self._buffer[3], self._buffer[4:end]
            self._buffer = self._buffer[end:]
            yield number, body


WIRES: dict[str, Callable[[], Wire]] = {"postgresql": PostgreSQLWire, "mysql": MySQLWire}
