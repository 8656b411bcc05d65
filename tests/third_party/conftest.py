from __future__ import annotations

import os

# Collected only in the environment that `python -m tests.third_party` makes.
if os.environ.get("DJANGO_SETTINGS_MODULE") != "tests.third_party.settings":
    collect_ignore_glob = ["*"]
