"""A Django project of settings alone, for peers that are Django apps."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.db import connection


def configure(*apps: str, **others: Any) -> None:
    """Set Django up with `apps` on the database of ``DATABASE_URL``, unless that was done."""
    if settings.configured:
        return
    parts = urlsplit(os.environ["DATABASE_URL"])
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "PASSWORD": parts.password,
        "HOST": parts.hostname,
        "PORT": parts.port,
    }
    settings.configure(
        DATABASES={"default": database}, INSTALLED_APPS=list(apps), USE_TZ=True, **others
    )
    # The harness waits for coroutines; nothing else runs on its loop.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    django.setup()


def keep_connections() -> None:
    """For every thread: a worker that closes its connection after each job opens many."""
    connection.settings_dict["CONN_MAX_AGE"] = None
