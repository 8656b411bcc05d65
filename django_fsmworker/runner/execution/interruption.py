"""Ending a check from outside, as far as that can be done.

A wait for the database is cancelled through the driver. Python code gets an exception injected,
which arrives when the thread runs Python again: a thread blocked in foreign code is not reached,
and nothing here pretends that it was. The lock of the attempt, or of the batch where one check has
many rows, proves that the thread still runs this very one, so that no other is hit; the flag on it,
not the exception that surfaces, decides what is recorded.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError

from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.logs import logger_for
from django_fsmworker.models.resolving import resolve_failures
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.database.outages import OutageTracker
from django_fsmworker.runner.execution.outcomes import overrun_failure
from django_fsmworker.runner.in_flight.attempts import (
    Batch,
    Work,
    attempts_of,
    flag_running,
    set_async_exc,
    work_fields,
)
from django_fsmworker.store.failures import record

logger = logger_for(__name__)


def interrupt(work: Work, ident: int, connections: ThreadConnections | None, flag: str) -> bool:
    """Set ``flag`` on what still runs and end its check; False if it had ended.

    At most one injection a check: after the first, its thread is replaced anyway.
    """
    with work.lock:
        if not flag_running(work, flag):
            return False
        set_async_exc(ident, ctypes.py_object(TimeoutError))
        if connections is not None:
            cancel_statement(connections)
    return True


def seconds_left(
    work: Work, deadline: float, outages: OutageTracker, waits: Callable[[], bool]
) -> float:
    """Seconds until the work has run for ``deadline`` seconds.

    Where nobody can end a wait for the database, the time for which the check waits there with the
    engine's own queries does not count; ``waits`` tells whether it does so now. One that does not
    may be what the others wait for.
    """
    alias, now = work.store.alias, time.monotonic()
    since = work.started or now
    if not work.store.interruptible:
        if outages.keeps_waiting(alias) and waits():
            work.waited = now
        since = max(since, outages.back_at(alias), work.waited)
    return since + deadline - now


def flag_of_overdue(work: Work, outages: OutageTracker) -> str:
    """The flag of a check past its deadline: through an outage it may have waited in vain.

    Where its waiting is not counted, it has had all the time that is its own.
    """
    if not work.store.interruptible:
        return "overran"
    alias, since = work.store.alias, work.started or 0.0
    waited = outages.is_away(alias) or since < outages.away_at(alias)
    return "cancelled" if waited else "overran"


def cancel_statement(connections: ThreadConnections) -> None:
    """End whatever statement runs on these connections of another thread."""
    try:
        connections.cancel()
    except (DatabaseError, OSError) as error:
        logger.debug("Could not cancel a statement: %s", error, extra={"action": "cancel"})
    except Exception as error:  # the driver's own errors; the injected exception is on its way
        logger.warning("Could not cancel a statement: %s", error, extra={"action": "cancel"})


def note_abandoned(work: Work, worker: str) -> None:
    """Put an abandoned check on record, by a thread beside: other deadlines do not wait for it."""
    threading.Thread(target=_note, args=(work, worker), name="fsmworker-note", daemon=True).start()


def _note(work: Work, worker: str) -> None:
    own = ThreadConnections(beside_pool=True)
    # Where a row has moved on, nobody asks why its check does not end.
    attempts = [each for each in attempts_of(work) if not each.superseded]
    failure = overrun_failure(work)
    noted = [(each.pk, str(each.state), failure) for each in attempts]
    try:
        record(work.store.alias, work.model, noted, worker)
        for each in attempts:
            each.noted = True
        if isinstance(work, Batch) and work.finished:  # and settled meanwhile: resolve the note
            resolve_failures(work.model, [each.pk for each in attempts], work.store.alias)
    except (DatabaseError, InterfaceError) as error:
        logger.warning(
            "An abandoned check was not recorded (%s).",
            error,
            extra={"action": "abandoned", **work_fields(work, worker)},
        )
    finally:
        own.close()
