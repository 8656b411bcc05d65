"""The settings of a process that is killed at a statement; see ``dying_app``."""

from __future__ import annotations

from tests.chaos.runner_settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.dying_app.DyingConfig"]
