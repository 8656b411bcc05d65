"""What an attempt came to, as the store writes it back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from django_fsmworker.store.failures import Failure


class Kind(Enum):
    """How an attempt ended. (Interrupted rows are handed back; superseded ones are dropped.)"""

    MOVED = "moved"
    STAYED = "stayed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


@dataclass(slots=True)
class Outcome:
    """One finishing write, fenced by the row's key, the state it started from and the token.

    ``target`` equals ``source`` where the row stays. ``delay`` is the seconds until the next try,
    ``timeout`` the target's timeout counted from the moment the row entered it; the earlier one
    decides ``state_next``, and with neither it becomes NULL. ``failures`` is the new count, which
    starts again in a failure state; ``attempt`` tells how many failures in a row led there.
    ``written``: the check's own transaction has committed it. ``kept``: the row goes on here.
    """

    pk: Any
    row: Any
    kind: Kind
    source: str
    token: int | None
    target: str
    delay: float | None
    timeout: float | None
    failures: int = 0
    attempt: int = 0
    failure: Failure | None = None
    cause: str = "check"
    written: bool = False
    kept: bool = False

    @property
    def moved(self) -> bool:
        """Whether the row enters a state (it may be the same one again, by its timeout)."""
        return self.kind is Kind.MOVED or self.target != self.source
