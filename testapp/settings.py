"""
Settings of the runnable project. It reads its environment:

``DATABASE_URL``: the database; a SQLite file in ``DATA_DIR`` unless set.
``OTHER_DATABASE_URL``: a second database with the alias ``other``, if set.
``DATA_DIR``: where the project keeps its files; ``data/`` in the checkout unless set.
``DEBUG``, ``SECRET_KEY``, ``ALLOWED_HOSTS``: as in Django.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import environ

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()

DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "data"))).absolute()

DEBUG = env.bool("DEBUG", default=True)
SECRET_KEY = env.str("SECRET_KEY", default="only-for-the-demo-and-the-tests")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_fsmworker",
    "testapp",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# What SQLite needs to be written to by several threads and processes.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}

# A column's default is the session's time, which has to be the UTC that Django writes.
MYSQL_OPTIONS = {"init_command": "SET time_zone = '+00:00'"}


def sqlite_file(path: Path) -> dict[str, Any]:
    """The configuration of a SQLite database in the file `path`, whose folder is made here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": SQLITE_OPTIONS}


def mysql_server(database: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a database on MariaDB or MySQL; mysqlclient or PyMySQL drives it."""
    options = {**MYSQL_OPTIONS, **database.get("OPTIONS", {})}
    if find_spec("MySQLdb") is None or "pymysql" in sys.modules:
        import pymysql

        pymysql.install_as_MySQLdb()
        if database["HOST"] in ("", "127.0.0.1", "localhost"):
            # PyMySQL reads all certificates of the system for every connection, which takes longer
            # than all the rest of it.
            options.setdefault("ssl_disabled", True)
    return {**database, "OPTIONS": options}


def database_from(variable: str) -> dict[str, Any]:
    """The configuration of the database whose URL the environment has under `variable`."""
    database: dict[str, Any] = env.db_url(variable)
    if database["ENGINE"] == "django.db.backends.sqlite3":
        return sqlite_file(Path(database["NAME"]))
    if database["ENGINE"] == "django.db.backends.mysql":
        return mysql_server(database)
    return database


DATABASES = {
    "default": (
        database_from("DATABASE_URL")
        if "DATABASE_URL" in env.ENVIRON
        else sqlite_file(DATA_DIR / "testapp.sqlite3")
    ),
}
if "OTHER_DATABASE_URL" in env.ENVIRON:
    DATABASES["other"] = database_from("OTHER_DATABASE_URL")

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "testapp.urls"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True
# MariaDB and MySQL make whole indexes where others make partial ones, which is what is wanted.
SILENCED_SYSTEM_CHECKS = ["models.W037"]
