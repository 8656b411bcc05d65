"""Run the check of many rows at once and say what came of it for each."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from asgiref.sync import async_to_sync

from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.runner.judging.answers import answers
from django_fsmworker.runner.judging.one import Judgement, is_interrupt
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.outcomes import Outcome

Caught = Sequence[list[BaseException]] | None


def judge_batch(
    rows: Sequence[Any], ages: Sequence[float], caught: Caught = None
) -> list[Outcome] | Failure:
    """One outcome for each of ``rows``, which are in the same state; see ``judge``.

    A ``Failure`` is that of the call, as far as nobody can tell which row is to blame for it.
    Whoever wants the exceptions themselves passes ``caught``, a list for each row.
    """
    batch = BatchJudgement(rows, ages, caught)
    if batch.given:
        with batch:
            batch.returned(batch.state.handler(batch.given))
    return batch.outcomes()


async def judge_batch_async(
    rows: Sequence[Any], ages: Sequence[float], caught: Caught = None
) -> list[Outcome] | Failure:
    """As ``judge_batch``, for an ``async def`` check: called on the event loop that runs it."""
    batch = BatchJudgement(rows, ages, caught)
    if batch.given:
        with batch:
            result = batch.state.handler(batch.given)
            batch.returned(await result if inspect.isawaitable(result) else result)
    return batch.outcomes()


def judge_batch_here(
    rows: Sequence[Any], ages: Sequence[float], caught: Caught = None
) -> list[Outcome] | Failure:
    """As ``judge_batch`` for a check of either kind; see ``judge_here``."""
    if type(rows[0]).state_graph.get(rows[0].__dict__["state"]).is_async:
        judged: list[Outcome] | Failure = async_to_sync(judge_batch_async)(rows, ages, caught)
        return judged
    return judge_batch(rows, ages, caught)


class BatchJudgement:
    """The judgements on the rows of one call: ``with`` it, the check runs and nothing escapes."""

    def __init__(self, rows: Sequence[Any], ages: Sequence[float], caught: Caught) -> None:
        self._each = [
            Judgement(row, age, caught[at] if caught else None)
            for at, (row, age) in enumerate(zip(rows, ages, strict=True))
        ]
        self._asked = [each for each in self._each if each.runs_check]
        self._failure: Failure | None = None
        # A list of the check's own, which may do with it what it likes.
        self.given = [each.row for each in self._asked]

    @property
    def state(self) -> Any:
        return self._asked[0].state

    def __enter__(self) -> Self:
        for each in self._asked:
            each.__enter__()
        return self

    def returned(self, result: Any) -> None:
        """The check has returned; raises if that does not tell which row gets what."""
        rows, keys = [each.row for each in self._asked], [each.key for each in self._asked]
        for each, answer in zip(
            self._asked, answers(self._asked[0].check, result, rows, keys), strict=True
        ):
            each.answered(answer)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            return True
        if is_interrupt(error):
            return False
        if isinstance(error, TryAgainLater):
            self._all_later(error)
        else:
            self._failure = Failure.of(error)
            for each in self._asked:
                each.note(error)
        return True

    def outcomes(self) -> list[Outcome] | Failure:
        """What the call came to."""
        return self._failure or [each.outcome() for each in self._each]

    def _all_later(self, later: TryAgainLater) -> None:
        """It counts for all of them; with a delay that is none, nobody knows whose it is."""
        for each in self._asked:
            each.raised(later)
        self._failure = self._asked[0].failure
