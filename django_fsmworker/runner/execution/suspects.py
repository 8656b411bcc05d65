"""Rows whose process died under them: counted before they are run again, and given up in the end.

Many rows lapse with one dead process and most of them did nothing: they were waiting. So a suspect
that has lapsed once runs beside others, as any row. Before its check starts, that is noted in its
failure record; if the note is still there when the row is taken over once more, the process died
while it ran this row, and the suspects of which that is known come closer to running alone:

====== ======================= ====================================================================
deaths the row is run          which leaves, where a process dies again
====== ======================= ====================================================================
0      beside any others       those that had started
1      beside few of its kind  the ``FEW`` that had started
2, …   with nothing beside it  the row itself: after a last death it is not run again
====== ======================= ====================================================================

(A child process for them comes later.)
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db import Error

from django_fsmworker.graph import State
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.execution.check_run import held
from django_fsmworker.runner.execution.outcomes import died_outcome
from django_fsmworker.runner.in_flight.attempts import (
    ALONE_FROM,
    Attempt,
    Work,
    attempts_of,
    work_fields,
)
from django_fsmworker.store.errors import is_refusal
from django_fsmworker.store.failures import Deaths, count_deaths, deaths_of
from django_fsmworker.store.fence import Outcome

logger = logger_for(__name__)

MOST_DEATHS = 5


def recall(suspects: Sequence[Attempt]) -> None:
    """Give the suspects of one claim the deaths that are on record.

    A row of which that cannot be read runs as one without; before it is run, it is asked again.
    """
    store, model = suspects[0].store, suspects[0].model
    try:
        with store.inside():
            known = deaths_of(store.alias, model, [each.pk for each in suspects])
    except Error as error:
        logger.warning(
            "%s", error, extra={"action": "examine", "model": suspects[0].model._meta.label}
        )
        return
    for each in suspects:
        each.deaths = known.get(each.pk, 0)


def examine(work: Work, worker: str) -> Outcome | None:
    """Count the deaths that suspects may bring; the last outcome of a row alone with too many.

    Rows of which the database lets nothing be written down are run all the same.
    """
    attempts = [each for each in attempts_of(work) if each.suspect and not each.examined]
    if not attempts:
        return None
    deaths: Deaths
    try:
        with work.store.transaction():
            # A row that others have ended meanwhile has nobody to take the note back.
            still = held(work.store.alias, work.model, [each.fence for each in attempts])
            keys = [each.pk for each in attempts if each.pk in still]
            deaths = count_deaths(work.store.alias, work.model, work.state.name, keys, worker)
    except Error as error:
        if not is_refusal(error) or work.store.mismatch(work.model, error):
            for each in attempts:
                each.examined = True  # perhaps; only the answer may have been lost
            raise
        logger.warning("%s", error, extra={"action": "examine", **work_fields(work, worker)})
        return None
    for each in attempts:
        each.deaths, each.examined = deaths.get(each.pk, 0), True
    if isinstance(work, Attempt) and work.deaths >= most_deaths(work.state):
        return died_outcome(work, work.deaths)
    return None


def most_deaths(state: State) -> int:
    """Known deaths after which a row is given up: once alone at least.

    The first death of all is not known: nobody has noted what that process ran.
    """
    return max(ALONE_FROM + 1, (state.max_attempts or MOST_DEATHS) - 1)
