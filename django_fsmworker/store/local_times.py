"""Columns that hold local times, where a database has a ``TIME_ZONE`` of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error


def check_zone(connection: Any) -> Iterator[CheckMessage]:
    """What Django's system checks say of the zone in the settings."""
    alias, zone = connection.alias, connection.settings_dict.get("TIME_ZONE")
    if zone not in (None, "UTC"):
        yield Error(
            _fault(alias, zone), hint=f"Take TIME_ZONE out of DATABASES[{alias!r}].",
            id="fsmworker.E013",
        )  # fmt: skip


def refused_zone(connection: Any) -> Iterator[str]:
    """Why no rows can be run on this connection: its zone, which may be that of the process."""
    alias, zone = connection.alias, connection.timezone_name
    if zone != "UTC":
        yield f"{_fault(alias, zone)} Take it out of DATABASES[{alias!r}]."


def _fault(alias: str, zone: str) -> str:
    return (
        f"The database {alias!r} has the TIME_ZONE {zone!r}, so its columns hold local times, "
        f"which are ambiguous for an hour a year."
    )
