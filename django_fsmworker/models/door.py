"""The door from a row to the layers above it.

Some verbs that a model inherits from its ancestor (claim, check, expire) need the store and the
code that runs a check, which both import the models. The application's ``ready()`` puts them here.
"""

from __future__ import annotations

from typing import Any, Protocol

from django_fsmworker.graph import State


class Engine(Protocol):
    """What the layers above do for a row."""

    def claim(self, model: Any, number: int, lease: float, using: str) -> list[Any]:
        """Claim up to ``number`` due rows for ``lease`` seconds."""

    def check(self, row: Any) -> State | None:
        """Run the check of one row here and now, and write what came of it."""

    def expire(self, model: Any, using: str) -> int:
        """Delete rows that have outlived their state's ``delete_after``."""

    def hint(self, payload: str, using: str) -> bool:
        """Tell the runners of this database; whether anything was sent."""

    def is_contention(self, error: BaseException) -> bool:
        """Whether the same transaction may well succeed in a moment."""


_engine: Engine | None = None


def install(engine: Engine) -> None:
    """Called once, when the application is ready."""
    global _engine
    _engine = engine


def engine() -> Engine:
    """The engine, once ``django_fsmworker`` is an installed application."""
    if _engine is None:
        raise RuntimeError(
            "Add 'django_fsmworker' to INSTALLED_APPS and call django.setup() first."
        )
    return _engine
