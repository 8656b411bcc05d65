"""File names as text: a name is bytes, and a database takes only what is valid UTF-8."""

from __future__ import annotations

import os
import re

ESCAPE = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def to_text(path: str) -> str:
    """`path` with every byte that is no UTF-8 written as ``\\xff``, and ``\\`` doubled."""
    return os.fsencode(path).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def from_text(text: str) -> str:
    """The path of which `to_text` made `text`."""
    return os.fsdecode(ESCAPE.sub(_byte, text.encode()))


def for_people(text: str) -> str:
    """`text` on one line, with nothing in it that could move a terminal's cursor."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _byte(found: re.Match[bytes]) -> bytes:
    escaped = found[1]
    return escaped if escaped == b"\\" else bytes([int(escaped[1:], 16)])
