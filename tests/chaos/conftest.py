from __future__ import annotations

from tests.runner.conftest import gate, locked, mode, server, start_process, start_runner

__all__ = ["gate", "locked", "mode", "server", "start_process", "start_runner"]
