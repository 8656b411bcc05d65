"""Hooks as a project would write them, and what they have seen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.app.models import Trouble

CALLED: list[str] = []
SEEN: list[Any] = []


def begin(runner: Any) -> None:
    CALLED.append("begin")
    SEEN.append(runner)


def end(runner: Any) -> None:
    CALLED.append(f"end, with {Trouble.objects.filter(state='done').count()} done")


def look(runner: Any) -> None:
    CALLED.append("look")


def fail(runner: Any) -> None:
    raise RuntimeError("no\nERROR forged")


def leave(runner: Any) -> None:
    raise SystemExit(3)


def write_pid(runner: Any) -> None:
    with Path(os.environ["PIDS"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
