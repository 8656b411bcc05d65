"""What a process is called in records and logs."""

from __future__ import annotations

import os
import socket


def worker_name() -> str:
    """``host:pid``."""
    return f"{socket.gethostname()}:{os.getpid()}"
