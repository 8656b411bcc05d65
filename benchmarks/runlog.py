"""What ran, and when: each process under measurement writes (key, moment) pairs into a mapped file.

Every handler of every contender calls the same ``note(key)``: well under a microsecond, no system
call, no statement. What it wrote outlives the process. Only the standard library is used here,
since peers run in environments of their own.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

RECORD = struct.Struct("<qd")
ROOM = 1_000_000
SIZE = ROOM * RECORD.size
VARIABLE = "BENCHMARK_LOG"


def noter() -> Callable[[int], None]:
    """``note(key)`` with a log of its own; the environment names the folder of the logs."""
    with NamedTemporaryFile(dir=os.environ[VARIABLE], suffix=".log", delete=False) as file:
        file.truncate(SIZE)
        mapped = mmap.mmap(file.fileno(), SIZE)
    # ``next`` is one step for the interpreter: two threads never get the same record.
    records, size = itertools.count(), RECORD.size
    pack, now = RECORD.pack_into, time.monotonic

    def note(key: int) -> None:
        pack(mapped, next(records) * size, key, now())

    return note


class RunLog:
    """The logs of one run, read while it lasts and after it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents: dict[Path, bytes | mmap.mmap] = {}
        self._read: dict[Path, int] = {}

    def count(self) -> int:
        """How many records there are by now, at least."""
        for path in self._folder.glob("*.log"):
            if path not in self._contents and path.stat().st_size == SIZE:
                with path.open("rb") as file:
                    self._contents[path] = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        for path, content in self._contents.items():
            self._read[path] = _first_free(content, self._read.get(path, 0))
        return sum(self._read.values())

    def entries(self) -> list[tuple[int, float]]:
        """Every key with the moment it was noted, in the monotonic clock that processes share."""
        self.count()
        return [
            entry
            for path, content in self._contents.items()
            for entry in RECORD.iter_unpack(content[: self._read[path] * RECORD.size])
        ]


def _first_free(content: bytes | mmap.mmap, position: int) -> int:
    """The first record from `position` on that is not written yet; keys are above 0."""
    while position < ROOM and RECORD.unpack_from(content, position * RECORD.size)[0]:
        position += 1
    return position
