"""What was measured on: processor, memory, kernel, versions, and how much of it others took."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

import django

PACKAGES = ("psycopg", "asgiref")


def machine_facts() -> dict[str, str]:
    """The machine, in words."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{_total_memory() / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def version_facts() -> dict[str, str]:
    """The versions of what all contenders share or what is ours."""
    return {
        "Python": platform.python_version(),
        "Django": django.get_version(),
        **{package: version(package) for package in PACKAGES},
        "SQLite": sqlite3.sqlite_version,
    }


class Weather:
    """Where the processors' time went since this object was made, in percent of it all.

    Each is 0.0 where the system does not say.
    """

    def __init__(self) -> None:
        self._before = _processor_times()

    def steal(self) -> float:
        """What the host gave to others."""
        return self._share(7)

    def idle(self) -> float:
        """What nobody wanted, or could not use because it waited for a disk."""
        return self._share(3, 4)

    def _share(self, *kinds: int) -> float:
        spent = [b - a for a, b in zip(self._before, _processor_times(), strict=True)]
        if len(spent) < 8 or not any(spent):
            return 0.0
        return 100 * sum(spent[kind] for kind in kinds) / sum(spent)


def load() -> float:
    """How many processes wanted a processor in the last minute, on average."""
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    lines = _lines("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor_times() -> list[int]:
    """User, nice, system, idle, iowait, irq, softirq, steal, … of all processors, in ticks."""
    first = (_lines("/proc/stat") or ["cpu"])[0]
    return [int(word) for word in first.split()[1:9]]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
