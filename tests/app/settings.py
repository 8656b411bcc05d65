"""
The runnable project with the app of the tests, on the databases that the environment names.

Processes that a test starts run with these settings.
"""

from __future__ import annotations

from testapp.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "tests.app"]
