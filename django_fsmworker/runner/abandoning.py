"""The reason of a check that does not end, on record while its row stays leased."""

from __future__ import annotations

import logging
import threading

from django.db import DatabaseError, InterfaceError, connections

from django_fsmworker.runner.attempt import Attempt
from django_fsmworker.runner.concluding import overrun
from django_fsmworker.runner.connections import discard
from django_fsmworker.store.failures import record

logger = logging.getLogger(__name__)


def note_abandoned(attempt: Attempt, worker: str) -> None:
    """Write it down, on a thread of its own: it must not hold up other deadlines."""
    threading.Thread(
        target=_note, args=(attempt, worker), name="fsmworker-note", daemon=True
    ).start()


def _note(attempt: Attempt, worker: str) -> None:
    failure = overrun(attempt).failure
    assert failure is not None
    noted = (attempt.pk, str(attempt.state), failure)
    try:
        record(attempt.store.alias, attempt.model, [noted], worker)
        attempt.noted = True
    except (DatabaseError, InterfaceError) as error:
        logger.warning("An abandoned check was not recorded (%s).", error)
    finally:
        discard(connections[attempt.store.alias])
