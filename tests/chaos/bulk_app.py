"""An app whose process lingers in each batch of a bulk action, before and after its COMMIT."""

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

        write_and_commit = running._Work._write_batch

        def with_pauses(*args: Any) -> None:
            write_and_commit(*args)
            time.sleep(0.05)  # on SQLite nobody else could write, and stop the action, in between

        running.BATCH = 8
        running.write_batch = slowly
        running._Work._write_batch = with_pauses
