"""An app whose process lingers in each batch of a bulk action before it commits it."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from django.apps import AppConfig


class SlowBulkConfig(AppConfig):
    name = "tests.chaos"
    label = "chaos"

    def ready(self) -> None:
        running: Any = import_module("django_fsmworker.bulk.running")

        write = running.write_batch

        def slowly(*args: Any, **options: Any) -> Any:
            tally = write(*args, **options)
            time.sleep(0.05)
            return tally

        running.BATCH = 8
        running.write_batch = slowly
