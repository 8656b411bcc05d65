"""The settings of a process whose statements fail at random, as ``TEST_FAULTS`` says."""

from __future__ import annotations

from tests.chaos.runner_settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.faulty_app.FaultyConfig"]
