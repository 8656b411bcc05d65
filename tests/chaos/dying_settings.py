"""The settings of a process that is killed at a statement, as ``TEST_DIE_AT`` says."""

from __future__ import annotations

from tests.app.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.dying_app.DyingConfig"]
