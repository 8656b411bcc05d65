"""The settings of a process that does bulk actions in small batches which take a while."""

from __future__ import annotations

from tests.app.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.bulk_app.SlowBulkConfig"]
