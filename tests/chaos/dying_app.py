"""An app whose process is killed before a statement.

``TEST_DIE_AT`` is the number of one of the checks' statements; ``TEST_DIE_BEFORE`` is what stands
in one of the settler's.
"""

from __future__ import annotations

import os
import signal
import threading
from itertools import count
from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created

_numbers = count(1)
_at = int(os.environ.get("TEST_DIE_AT", "0"))
_before = os.environ.get("TEST_DIE_BEFORE")


def _die_if_it_is_time(sql: str = "") -> None:
    thread = threading.current_thread().name
    if thread.startswith("fsmworker-check"):
        is_time = next(_numbers) == _at
    else:
        is_time = _before is not None and thread == "fsmworker-settler" and _before in sql
    if is_time:
        os.kill(os.getpid(), signal.SIGKILL)


def _execute(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    _die_if_it_is_time(sql)
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
