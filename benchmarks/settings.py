"""
The test project with the models of the benchmarks instead of its own.

``DATABASE_URL`` names the database. ``BENCHMARK_SQLITE``, a file, and ``BENCHMARK_MARIADB``, a URL,
make two more, ``sqlite`` and ``mariadb``.
"""

from __future__ import annotations

from pathlib import Path

from testapp.settings import *

DEBUG = False
ROOT_URLCONF = "benchmarks.app.urls"
INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "testapp"] + ["benchmarks.app"]
if "BENCHMARK_MARIADB" in env.ENVIRON:
    DATABASES["mariadb"] = database_from("BENCHMARK_MARIADB")
if "BENCHMARK_SQLITE" in env.ENVIRON:
    DATABASES["sqlite"] = sqlite_file(Path(env.str("BENCHMARK_SQLITE")))
