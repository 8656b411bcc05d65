"""An app whose process is killed before a statement of a check, the one of ``TEST_DIE_AT``."""

from __future__ import annotations

import os
import signal
import threading
from itertools import count
from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created

_numbers = count(1)


def _die_if_it_is_time() -> None:
    if threading.current_thread().name.startswith("fsmworker-check") and next(_numbers) == int(
        os.environ["TEST_DIE_AT"]
    ):
        os.kill(os.getpid(), signal.SIGKILL)


def _execute(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    _die_if_it_is_time()
    return execute(sql, params, many, context)


def _watch(connection: Any, **kwargs: Any) -> None:
    connection.execute_wrappers.append(_execute)
    commit = connection._commit

    def dying() -> None:
        _die_if_it_is_time()
        commit()
        _die_if_it_is_time()

    connection._commit = dying


class DyingConfig(AppConfig):
    name = "tests.chaos"
    label = "chaos"

    def ready(self) -> None:
        connection_created.connect(_watch, weak=False)
