"""A driver that is missing: said by the name of the extra, before Django says it its own way."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

MYSQL = "django.db.backends.mysql"


def require_drivers() -> None:
    """Raise ``ImproperlyConfigured`` if a database on MariaDB or MySQL has no driver."""
    here = [alias for alias, each in settings.DATABASES.items() if each.get("ENGINE") == MYSQL]
    if not here or _is_there("MySQLdb"):
        return
    install = "" if _is_there("pymysql") else "run pip install 'django-fsmworker[mysql]', and "
    raise ImproperlyConfigured(
        f"DATABASES[{here[0]!r}] is on MariaDB or MySQL, and Django finds no driver for it: "
        f"{install}put 'import pymysql; pymysql.install_as_MySQLdb()' at the top of your settings."
    )


def _is_there(module: str) -> bool:
    return module in sys.modules or find_spec(module) is not None
