"""Claims: where they look for rows, and what proves that one holds a row."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Lane:
    """One state of one model, as a claim looks at it.

    At most ``limit`` rows, from the low-water mark ``since`` on (None: from the start).
    """

    state: str
    limit: int
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A claimed row: its key, the token that proves the claim, and the state it was claimed in.

    A row that somebody moved with a plain ``update()`` still carries the token, but not the state.
    """

    pk: Any
    token: int
    state: str


def new_token() -> int:
    """A random even number; the claim writes the odd one above it where a lease had lapsed."""
    return secrets.randbits(61) << 1


def taken_over(token: int | None) -> bool:
    """Whether a claim's token says that the row's lease had lapsed: it is a suspect."""
    return token is not None and token % 2 == 1
