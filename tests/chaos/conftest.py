from __future__ import annotations

from tests.runner.conftest import locked, start_process, start_runner

__all__ = ["locked", "start_process", "start_runner"]
