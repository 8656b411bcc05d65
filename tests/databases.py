"""The databases of one test pass, from the environment that the launcher (or you) set."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import environ

from testapp.settings import mysql_server, sqlite_file

VENDORS = ("sqlite", "postgresql", "mysql")
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MariaDB or MySQL"}
# Where the URL of a server is found; any database of it will do.
URL_VARIABLES = {"postgresql": "TEST_DATABASE_URL", "mysql": "TEST_MYSQL_URL"}

# The folder of this session's SQLite files; it goes when the process ends.
_folder: tempfile.TemporaryDirectory[str] | None = None


def chosen_vendor() -> str:
    """The vendor this session tests: ``TEST_DATABASE``, SQLite unless set."""
    vendor = os.environ.get("TEST_DATABASE", "sqlite")
    if vendor not in VENDORS:
        raise SystemExit(f"TEST_DATABASE is {vendor!r}; it has to be one of: {', '.join(VENDORS)}.")
    return vendor


def database_settings() -> dict[str, dict[str, Any]]:
    """Django's ``DATABASES`` for this session: `default` and `other`, two separate databases."""
    database = {"sqlite": _sqlite, "postgresql": _postgresql, "mysql": _mysql}[chosen_vendor()]
    return {"default": database("fsmworker"), "other": database("fsmworker_other")}


def _sqlite(name: str) -> dict[str, Any]:
    # A file, since threads and other processes have to reach it.
    global _folder
    _folder = _folder or tempfile.TemporaryDirectory(prefix="fsmworker-tests-")
    path = Path(_folder.name, f"{name}.sqlite3")
    return {**sqlite_file(path), "TEST": {"NAME": str(path.with_name(f"test_{path.name}"))}}


def _postgresql(name: str) -> dict[str, Any]:
    return {**_server("postgresql"), "TEST": {"NAME": f"test_{name}"}}


def _mysql(name: str) -> dict[str, Any]:
    # Until the test's database is made, there may be none at all.
    return {**mysql_server(_server("mysql")), "NAME": "", "TEST": {"NAME": f"test_{name}"}}


def _server(vendor: str) -> dict[str, Any]:
    variable = URL_VARIABLES[vendor]
    url = os.environ.get(variable)
    if not url:
        raise SystemExit(
            f"TEST_DATABASE is {vendor!r} and {variable} names no server: "
            f"run `python -m tests --database {vendor}`, which starts one."
        )
    database: dict[str, Any] = environ.Env.db_url_config(url)
    return database


def database_url(settings: dict[str, Any]) -> str:
    """The URL of a configured database, as ``DATABASE_URL`` takes it."""
    if settings["ENGINE"] == "django.db.backends.sqlite3":
        return f"sqlite:///{quote(str(settings['NAME']))}"
    user, password = quote(settings["USER"], safe=""), quote(settings["PASSWORD"], safe="")
    host = f"{settings['HOST']}:{settings['PORT']}" if settings["PORT"] else settings["HOST"]
    options = {
        key: value
        for key, value in settings.get("OPTIONS", {}).items()
        if isinstance(value, (str, int))
    }
    query = f"?{urlencode(options)}" if options else ""
    scheme = "mysql" if settings["ENGINE"] == "django.db.backends.mysql" else "postgres"
    return f"{scheme}://{user}:{password}@{host}/{quote(settings['NAME'], safe='')}{query}"
