"""Where the demo keeps what is not in the database: a folder in the project's ``DATA_DIR``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings


def home() -> Path:
    """The demo's own folder."""
    return Path(settings.DATA_DIR) / "demo"


def archive() -> Path:
    """The folder of the compressed copies."""
    return home() / "archive"


def copy_of(pk: int) -> Path:
    """The compressed copy of the row `pk`; a few hundred to a folder."""
    return archive() / f"{pk // 500:05}" / f"{pk}.gz"


def runner_log() -> Path:
    """What the runners write on their standard error."""
    return home() / "runner.log"


def check_log() -> Path:
    """Which checks were begun, one line each."""
    return home() / "checks.log"


def lock_file() -> Path:
    """Locked by the one demo that may use this folder."""
    return home() / "lock"


def copies() -> Iterator[Path]:
    """Every complete copy that is there."""
    return archive().rglob("*.gz")


def remove_unfinished() -> None:
    """Remove what killed runners were writing; no runner may be alive."""
    for part in archive().rglob("*.part"):
        part.unlink()


def clear() -> None:
    """Remove what an earlier demo left."""
    shutil.rmtree(archive(), ignore_errors=True)
    for log in (runner_log(), check_log()):
        log.unlink(missing_ok=True)
    archive().mkdir(parents=True)


def is_own(path: Path) -> bool:
    """Whether `path` is one of the files that the project itself writes while the demo runs."""
    name = settings.DATABASES["default"]["NAME"]
    return path == home() or str(path) in {f"{name}{end}" for end in ("", "-wal", "-shm")}
