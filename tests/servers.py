"""What every server that the tests start needs: an account, a folder it can enter, a free port."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

USER = "fsmworker"
START_SECONDS = 60
STOP_SECONDS = 30


class ServerUnavailable(Exception):
    """No server could be started or reached; the message says why."""


def account() -> dict[str, Any]:
    """Whom a server runs as when root starts it: database servers refuse to run as root."""
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def folder(name: str) -> Iterator[Path]:
    """A temporary folder for a server's data, which goes afterwards."""
    parent = _open_parent() if os.geteuid() == 0 else None
    path = Path(tempfile.mkdtemp(prefix=f"fsmworker-{name}-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _open_parent() -> Path:
    """A folder for temporary files that every user can reach: TMPDIR may be root's alone."""
    candidates = [tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    for candidate in map(Path, candidates):
        folders = [candidate.resolve(), *candidate.resolve().parents]
        if candidate.is_dir() and all(each.stat().st_mode & stat.S_IXOTH for each in folders):
            return candidate
    raise ServerUnavailable(f"no folder that other users can enter among {', '.join(candidates)}")


def free_port() -> int:
    """Nobody listens there now; somebody may in the next moment.

    It is none of those that the system gives to whoever connects to somewhere: with hundreds of
    connections a second, one of them would now and then be taken before a server listens there.
    """
    # Sessions side by side have the same seed.
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def serve(variable: str, running_server: Callable[[], AbstractContextManager[str]]) -> None:
    """Start a server, print the environment variable that names it, and wait to be interrupted.

    It is for runs of the tests that find it by its URL.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with running_server() as url:
        print(f"export {variable}={url}", flush=True)
        print("The server runs until this program is interrupted.", file=sys.stderr)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass
