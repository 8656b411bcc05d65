"""Programs of the system that some tests need, and that not everybody has installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Not on every user's path.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin")


def needed(name: str, found: str | Path | None) -> str:
    """The path of what was found; without it the test is skipped.

    It fails instead if ``REQUIRE_PROGRAMS`` (comma-separated) names it.
    """
    if found is not None:
        return str(found)
    reason = f"{name} is not installed; .ci/run tells how it is"
    if name in os.environ.get("REQUIRE_PROGRAMS", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


def pgbouncer() -> str:
    """PostgreSQL's connection pooler."""
    path = os.pathsep.join([os.environ["PATH"], *SYSTEM_FOLDERS])
    return needed("pgbouncer", shutil.which("pgbouncer", path=path))


def faketime() -> str:
    """The library that lets a program see another time."""
    return needed("faketime", next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None))


def promtool() -> str:
    """Prometheus' own judgement on rules and expressions; in Debian's package ``prometheus``."""
    return needed("promtool", shutil.which("promtool"))


def chromium() -> str:
    """A browser; Debian's package ``chromium``, or Google's Chrome."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return needed("chromium", next(filter(None, map(shutil.which, names)), None))


def axe() -> str:
    """Deque's judgement on accessibility: ``axe.min.js`` of the npm package ``axe-core``.

    ``AXE_CORE`` is the folder of that package.
    """
    folder = os.environ.get("AXE_CORE", "")
    script = Path(folder, "axe.min.js")
    return needed("axe-core", script if folder and script.is_file() else None)
