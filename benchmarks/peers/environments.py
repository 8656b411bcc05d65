"""A virtual environment for each peer, made once and kept in a cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.roster import Peer

STAMP = "requirements-installed"


def cache_folder() -> Path:
    """``BENCHMARK_CACHE``, or a folder of ours in the user's cache."""
    if folder := os.environ.get("BENCHMARK_CACHE"):
        return Path(folder).absolute()
    parent = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(parent, "django-fsmworker-benchmarks")


def python_of(peer: Peer) -> Path:
    """The interpreter of the peer's environment, which is made if its requirements have changed."""
    folder = cache_folder() / f"{peer.module}-{sys.version_info.major}.{sys.version_info.minor}"
    python, stamp = folder / "bin" / "python", folder / STAMP
    wanted = "\n".join(peer.requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making an environment for {peer.name} in {folder}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    install = ["-m", "pip", "install", "--quiet", "--quiet", "--disable-pip-version-check"]
    subprocess.run([str(python), *install, *peer.requirements], check=True)
    stamp.write_text(wanted)
    return python
