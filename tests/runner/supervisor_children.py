"""A supervisor's children, seen from outside."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.runner.processes import Process

STARTED = re.compile(r"INFO Running .* as \S+ \(process (\d+)\)\.$", re.MULTILINE)


def children(process: Process) -> list[int]:
    """The runners that have said that they run, in this order, and that still do."""
    return [pid for pid in map(int, STARTED.findall(process.stderr)) if alive(pid)]


def alive(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be buried does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not status.parent.parent.joinpath("self").exists() or not _zombie(status)


def _zombie(status: Path) -> bool:
    try:
        return "\nState:\tZ" in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
