"""What is done with a file's bytes: fingerprint them, pack a copy, read the copy back."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

CHUNK = 1 << 20
FASTEST = 1

# An object of its own: the module's functions read the system's files on first use, in any thread.
TYPES = mimetypes.MimeTypes()
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class NotAFile(Exception):
    """It is there, but has no bytes of its own to keep."""


class Changed(Exception):
    """The file is not the one that was fingerprinted."""


class CopyDiffers(Exception):
    """The copy that was read back is not the file that was fingerprinted."""


@dataclass(frozen=True)
class Fingerprint:
    """By what a content is known."""

    sha256: str
    size: int


def fingerprint(path: str) -> Fingerprint:
    """Read the file at `path`; raises ``OSError`` or ``NotAFile``."""
    with opened(path) as file:
        return _pass_on(file, lambda chunk: None)


def content_type(path: str) -> str:
    """What the name says about the content."""
    return TYPES.guess_type(path)[0] or "application/octet-stream"


def pack(path: str, copy: Path, expected: Fingerprint) -> None:
    """Write a compressed copy of the file at `path`; raises ``Changed`` if it is another one now.

    A copy is there completely or not at all, whenever this process ends: it is written under
    another name and then renamed. A second call replaces it by the same bytes.
    """
    copy.parent.mkdir(parents=True, exist_ok=True)
    part = copy.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        with opened(path) as file, part.open("wb") as target:
            with gzip.GzipFile("", "wb", FASTEST, target, mtime=0) as packed:
                found = _pass_on(file, packed.write)
        if found != expected:
            raise Changed(f"{path!r} changed after it was fingerprinted.")
        part.replace(copy)
    finally:
        part.unlink(missing_ok=True)


def compare(copy: Path, expected: Fingerprint) -> None:
    """Read a copy back; raises ``CopyDiffers``, or ``OSError`` where it cannot be read."""
    with gzip.open(copy) as file:
        found = _pass_on(cast(BinaryIO, file), lambda chunk: None)
    if found != expected:
        raise CopyDiffers(f"{copy} has {found.size} bytes with the SHA-256 {found.sha256}.")


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file at `path`, for reading; never waits for somebody to write into a pipe."""
    _refuse_others(os.stat(path).st_mode, path)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        # It may have been replaced since.
        _refuse_others(os.fstat(file.fileno()).st_mode, path)
        yield cast(BinaryIO, file)


def _refuse_others(mode: int, path: str) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFile(f"{path!r} is {KINDS.get(stat.S_IFMT(mode), 'no regular file')}.")


def _pass_on(file: BinaryIO, take: Callable[[bytes], object]) -> Fingerprint:
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        take(chunk)
    return Fingerprint(digest.hexdigest(), size)
