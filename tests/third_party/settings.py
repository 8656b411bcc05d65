"""The settings of the tests beside other packages, on the database under test."""

from __future__ import annotations

from tests.settings import *

INSTALLED_APPS = [
    *INSTALLED_APPS,
    "import_export",
    "rest_framework",
    "safedelete",
    "simple_history",
    "treebeard",
    "tests.third_party.app",
]
