"""Ending a check from outside, as far as that can be done.

A wait for the database is cancelled through the driver. Python code gets an exception injected,
which arrives when the thread runs Python again: a thread blocked in foreign code is not reached,
and nothing here pretends that it was. The lock of the attempt, or of the batch where one check has
many rows, proves that the thread still runs this very one, so that no other is hit; the flag on it,
not the exception that surfaces, decides what is recorded.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from typing import Any

from django.db import DatabaseError

from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.work.batch import Work

logger = logging.getLogger(__name__)

set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
set_async_exc.restype = ctypes.c_int


def interrupt(work: Work, ident: int, connections: ThreadConnections | None, flag: str) -> bool:
    """Set ``flag`` on what still runs and end its check; False if it had ended.

    At most one injection a check: after the first, its thread is replaced anyway.
    """
    with work.lock:
        if not _flag(work, flag):
            return False
        set_async_exc(ident, ctypes.py_object(TimeoutError))
        if connections is not None:
            cancel_statement(connections)
    return True


def flag_as(work: Work, flag: str) -> bool:
    """Set ``flag`` on what still runs, for somebody else to end; False if it had ended.

    What it comes to is decided by that, whatever it still does.
    """
    with work.lock:
        return _flag(work, flag)


def log_interrupted(work: Work, flag: str) -> None:
    """Say that a check is being ended."""
    logger.warning(
        "The check of %s %s in the state %s %s.",
        work.model._meta.label,
        work.pk,
        work.state,
        "overran its deadline" if flag == "overran" else "was cancelled",
        extra={"action": flag, "model": work.model._meta.label, "pk": work.pk},
    )


def finish(work: Work) -> bool:
    """Called by the check's own thread when it has ended: from here on nobody interrupts.

    An injected exception that has not arrived yet may do so anywhere in here, once; hence the loop.
    Returns whether it had been interrupted.
    """
    while True:
        try:
            with work.lock:
                work.finished = True
                if work.overran or work.cancelled:
                    set_async_exc(threading.get_ident(), NOTHING)
            return work.overran or work.cancelled
        except TimeoutError:
            continue


def _flag(work: Work, flag: str) -> bool:
    if work.finished or work.overran or work.cancelled:
        return False
    setattr(work, flag, True)
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
