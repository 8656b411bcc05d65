from __future__ import annotations

from tests.runner.conftest import held_check, locked, mode, server, start_process, start_runner

__all__ = ["held_check", "locked", "mode", "server", "start_process", "start_runner"]
