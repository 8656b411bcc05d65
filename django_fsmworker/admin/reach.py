"""Databases that are away: a page that is about several shows the others."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import InterfaceError, OperationalError, connections


class Reach:
    """Which databases can be connected to; each is tried once for a page."""

    def __init__(self) -> None:
        self._found: dict[str, bool] = {}

    def __call__(self, alias: str) -> bool:
        """Whether that database can be connected to."""
        if alias not in self._found:
            self._found[alias] = _is_there(alias)
        return self._found[alias]

    def of(self, databases: Iterable[str]) -> list[str]:
        """Those of ``databases`` that can be connected to."""
        return [alias for alias in databases if self(alias)]

    @property
    def away(self) -> list[str]:
        """Those that were tried in vain."""
        return [alias for alias, is_there in self._found.items() if not is_there]


def _is_there(alias: str) -> bool:
    try:
        connections[alias].ensure_connection()
    except (InterfaceError, OperationalError):
        return False
    return True
