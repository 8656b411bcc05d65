"""Keeping one server of the tests' own running, for runs that name it by its URL."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager


def serve(variable: str, running_server: Callable[[], AbstractContextManager[str]]) -> None:
    """Start it, print the environment variable to set, and wait to be interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with running_server() as url:
        print(f"export {variable}={url}", flush=True)
        print("The server runs until this program is interrupted.", file=sys.stderr)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass
