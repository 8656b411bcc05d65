"""The reason of a check that does not end, on record while its row stays leased."""

from __future__ import annotations

import logging
import threading

from django.db import DatabaseError, InterfaceError

from django_fsmworker.models.moving import resolve_failures
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.settling.concluding import overran
from django_fsmworker.runner.work.batch import Batch, Work, attempts_of
from django_fsmworker.store.failures import record

logger = logging.getLogger(__name__)


def note_abandoned(work: Work, worker: str) -> None:
    """Write it down, on a thread of its own: it must not hold up other deadlines."""
    threading.Thread(target=_note, args=(work, worker), name="fsmworker-note", daemon=True).start()


def _note(work: Work, worker: str) -> None:
    own = ThreadConnections(beside_pool=True)
    # Where a row has moved on, nobody asks why its check does not end.
    failure, attempts = overran(work), [each for each in attempts_of(work) if not each.superseded]
    noted = [(each.pk, str(each.state), failure) for each in attempts]
    try:
        record(work.store.alias, work.model, noted, worker)
        for each in attempts:
            each.noted = True
        if isinstance(work, Batch) and work.finished:  # meanwhile: what its rows came to, they told
            resolve_failures(work.model, [each.pk for each in attempts], work.store.alias)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("An abandoned check was not recorded (%s).", error)
    finally:
        own.close()
