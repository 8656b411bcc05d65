"""Rows whose process died under them: counted before they are run again, given up after five times.

Many rows lapse with one dead process and most of them did nothing: they were waiting. So a lapse
alone fails nobody. A suspect runs with nothing started beside it, and that is noted in its failure
record before its check starts; if the note is still there when the row is taken over once more, the
process died of this row. (A child process for them comes later.)
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import Error

from django_fsmworker.runner.judging.one import MOST_DEATHS, failed
from django_fsmworker.runner.work.attempt import Attempt
from django_fsmworker.store.errors import is_refusal
from django_fsmworker.store.failures import Failure, count_death
from django_fsmworker.store.outcomes import Outcome

logger = logging.getLogger(__name__)


def examine_if_possible(attempt: Attempt, age: float, worker: str) -> Outcome | None:
    """``examine``; a row of which nothing can be written down can be run all the same."""
    try:
        return examine(attempt, age, worker)
    except Error as error:
        if not is_refusal(error):
            raise
        logger.warning("%s", error, extra={"action": "examine", "pk": attempt.pk})
        return None


def examine(attempt: Attempt, age: float, worker: str) -> Outcome | None:
    """Count the death this attempt may bring; returns the last outcome of a row with too many."""
    with attempt.store.transaction():
        deaths = count_death(attempt.store.alias, attempt.row, worker)
    if deaths < most_deaths(attempt.state):
        return None
    failure = Failure(
        "django_fsmworker.exceptions.ProcessDied",
        f"The process that ran this row ended {deaths} times while nothing ran beside it; "
        f"it is not run again.",
    )
    return failed(
        attempt.row, attempt.pk, attempt.token, attempt.state, failure, age, for_good=True
    )


def most_deaths(state: Any) -> int:
    """Deaths alone after which a row is given up; the first, beside others, is not counted."""
    return max(1, (state.max_attempts or MOST_DEATHS) - 1)
