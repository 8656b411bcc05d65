from __future__ import annotations

import pytest

from tests.runner.conftest import held_check, locked, mode, server, start_process, start_runner

__all__ = ["held_check", "locked", "mode", "server", "start_process", "start_runner"]


@pytest.fixture
def database_env(database_env: dict[str, str]) -> dict[str, str]:
    return {**database_env, "DJANGO_SETTINGS_MODULE": "tests.chaos.runner_settings"}
