"""What user code has left to be called after the commit of a transaction of the engine's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django_fsmworker.logs import logger_for

logger = logger_for(__name__)


def log_errors_after_commit(connection: Any) -> None:
    """Let no ``on_commit`` function of the open transaction raise: the transaction is committed.

    Django would call none of those after it, and whoever committed would take it for a failure.
    """
    connection.run_on_commit = [
        (savepoints, partial(_call, function), robust)
        for savepoints, function, robust in connection.run_on_commit
    ]


def _call(function: Callable[[], object]) -> None:
    try:
        function()
    except (Exception, SystemExit):  # the latter would end the thread
        logger.exception(
            "A function that was left to on_commit() failed; the transaction is committed.",
            extra={"action": "on_commit"},
        )
