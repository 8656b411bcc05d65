"""Ending a check from outside, as far as that can be done.

A wait for the database is cancelled through the driver. Python code gets an exception injected,
which arrives when the thread runs Python again: a thread blocked in foreign code is not reached,
and nothing here pretends that it was. The attempt's lock proves that the thread still runs this
very attempt, so that no other one is hit; the flag on the attempt, not the exception that surfaces,
decides what is recorded.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from typing import Any

from django.db import DatabaseError

from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.runner.attempt import Attempt
from django_fsmworker.runner.connections import ThreadConnections

logger = logging.getLogger(__name__)

set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
set_async_exc.restype = ctypes.c_int


def interrupt(
    attempt: Attempt, ident: int, connections: ThreadConnections | None, flag: str
) -> bool:
    """Set ``flag`` on an attempt that still runs and end its check; False if it had ended.

    At most one injection an attempt: after the first, its thread is replaced anyway.
    """
    with attempt.lock:
        if not _flag(attempt, flag):
            return False
        set_async_exc(ident, ctypes.py_object(TimeoutError))
        if connections is not None:
            cancel_statement(connections)
    return True


def flag_as(attempt: Attempt, flag: str) -> bool:
    """Set ``flag`` on an attempt that still runs, for somebody else to end; False if it had ended.

    What it comes to is decided by that, whatever it still does.
    """
    with attempt.lock:
        return _flag(attempt, flag)


def log_interrupted(attempt: Attempt, flag: str) -> None:
    """Say that a check is being ended."""
    logger.warning(
        "The check of %s %s in the state %s %s.",
        attempt.model._meta.label,
        attempt.pk,
        attempt.state,
        "overran its deadline" if flag == "overran" else "was cancelled",
        extra={"action": flag, "model": attempt.model._meta.label, "pk": attempt.pk},
    )


def finish(attempt: Attempt) -> bool:
    """Called by the attempt's own thread when its check has ended: from here on nobody interrupts.

    An injected exception that has not arrived yet may do so anywhere in here, once; hence the loop.
    Returns whether the attempt had been interrupted.
    """
    while True:
        try:
            with attempt.lock:
                attempt.finished = True
                if attempt.overran or attempt.cancelled:
                    set_async_exc(threading.get_ident(), NOTHING)
            return attempt.overran or attempt.cancelled
        except TimeoutError:
            continue


def _flag(attempt: Attempt, flag: str) -> bool:
    if attempt.finished or attempt.overran or attempt.cancelled:
        return False
    setattr(attempt, flag, True)
    return True


def cancel_statement(connections: ThreadConnections) -> None:
    """End whatever statement runs on these connections of another thread."""
    try:
        connections.cancel()
    except (DatabaseError, OSError) as error:
        logger.debug("Could not cancel a statement: %s", error, extra={"action": "cancel"})
    except Exception as error:  # the driver's own errors; the injected exception is on its way
        logger.warning("Could not cancel a statement: %s", error, extra={"action": "cancel"})


NOTHING: Any = ctypes.py_object()
