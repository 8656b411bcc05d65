"""What a project's middleware is told of an attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class AttemptInfo:
    """The attempt that a middleware is around: one call of a check.

    ``rows`` are what the check gets: one row, or several where its state has ``batch``. ``attempt``
    counts those in a row that failed, this one included. ``worker`` is the id of the runner,
    ``using`` the alias of the rows' database. ``target`` is the state that the check of a single
    row has answered with (its own, if the row stays), once the check has returned.
    ``event`` is the durable event that is delivered to the row; None around a check.
    """

    model: Any
    state: str
    rows: list[Any]
    attempt: int
    worker: str
    using: str
    target: str | None = None
    event: Any = None

    @property
    def row(self) -> Any:
        """The row, or the first of several."""
        return self.rows[0]
