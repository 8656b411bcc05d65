"""Django's ``default`` database somewhere else for a while: behind a proxy, on another server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from django.db import connection, connections

# A proxy reads what is said, and cuts where it likes. (On MariaDB the tests' project says so.)
PLAIN = {"postgresql": {"sslmode": "disable", "gssencmode": "disable"}}


@contextmanager
def redirected(**changes: Any) -> Iterator[None]:
    """For every thread of this process, whatever connection it opens from now on."""
    settings = connections.settings["default"]
    before = dict(settings)
    connection.close()
    settings.update(changes)
    try:
        yield
    finally:
        connection.close()
        settings.clear()
        settings.update(before)


def through_proxy(port: int, url: str | None = None) -> dict[str, Any]:
    """What to change for a proxy on ``port``; with ``url`` before the server it names."""
    parts = urlsplit(url or "")
    account = {
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "NAME": parts.path.strip("/"),
    }
    options = {**connection.settings_dict["OPTIONS"], **PLAIN.get(connection.vendor, {})}
    way = {"HOST": "127.0.0.1", "PORT": str(port), "OPTIONS": options}
    return {**account, **way} if url else way
