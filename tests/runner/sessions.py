"""Something that a session keeps beyond a transaction: set, and looked at, on each database."""

from __future__ import annotations

from typing import Any

from django.db import connection

SET = {
    "postgresql": "SELECT set_config('app.tenant', 'somebody', false)",
    "mysql": "SET @tenant = 'somebody'",
    "sqlite": "PRAGMA cache_size = 77",
}
GET = {
    "postgresql": "SELECT coalesce(current_setting('app.tenant', true), '') = 'somebody'",
    "mysql": "SELECT coalesce(@tenant, '') = 'somebody'",
    "sqlite": "SELECT cache_size = 77 FROM pragma_cache_size",
}


def change_session() -> None:
    """Become somebody on the calling thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute(SET[connection.vendor])


def session_is_changed() -> bool:
    """Whether the calling thread's connection is still somebody's."""
    with connection.cursor() as cursor:
        cursor.execute(GET[connection.vendor])
        found: Any = cursor.fetchone()
    return bool(found[0])
