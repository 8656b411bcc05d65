"""Run the check of one row, of either kind, and say what came of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation

from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.graph import State
from django_fsmworker.models import unsaved
from django_fsmworker.models.keys import key_of
from django_fsmworker.runner.judging.answers import answers, refuse_answer
from django_fsmworker.runner.judging.verdicts import Verdict
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.outcomes import Outcome

logger = logging.getLogger(__name__)

MOST_DEATHS = 5


def judge(row: Any, age: float, caught: list[BaseException] | None = None) -> Outcome:
    """The outcome of one attempt at ``row``, which entered its state ``age`` seconds ago.

    Nothing a check raises gets through, except Ctrl-C in the main thread. Whoever wants the
    exception itself, beside the text on record, passes the list ``caught``.
    """
    judgement = Judgement(row, age, caught)
    if judgement.runs_check:
        with judgement:
            judgement.returned(judgement.state.handler(judgement.given))
    return judgement.outcome()


async def judge_async(row: Any, age: float, caught: list[BaseException] | None = None) -> Outcome:
    """As ``judge``, for an ``async def`` check: called on the event loop that runs it."""
    judgement = Judgement(row, age, caught)
    if judgement.runs_check:
        with judgement:
            result = judgement.state.handler(judgement.given)
            judgement.returned(await result if inspect.isawaitable(result) else result)
    return judgement.outcome()


def judge_here(row: Any, age: float, caught: list[BaseException] | None = None) -> Outcome:
    """As ``judge`` for a check of either kind; one that is async gets a loop for itself.

    What it calls through ``sync_to_async`` runs on the caller's thread, and in its transaction.
    """
    if type(row).state_graph.get(row.__dict__["state"]).is_async:
        outcome: Outcome = async_to_sync(judge_async)(row, age, caught)
        return outcome
    return judge(row, age, caught)


def refuse_running_loop(models: Iterable[Any], verb: str) -> None:
    """Raise ``SynchronousOnlyOperation`` where ``judge_here`` could run no async check."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    for model in models:
        if any(state.is_async for state in model.state_graph.states.values()):
            raise SynchronousOnlyOperation(
                f"{verb} cannot run the async checks of {model._meta.label} on the thread of a "
                f"running event loop; call it through sync_to_async()."
            )


def failed(
    row: Any,
    pk: Any,
    token: int | None,
    state: State,
    failure: Failure,
    age: float,
    *,
    for_good: bool = False,
) -> Outcome:
    """The outcome of an attempt that ended in ``failure``, here or in a process that died."""
    verdict = Verdict(row, pk, token, state)
    return verdict.or_timeout(verdict.failed(failure, for_good=for_good), age)


def parked(row: Any, pk: Any, token: int | None, state: State, failure: Failure) -> Outcome:
    """The outcome that stops trying where the row is."""
    return Verdict(row, pk, token, state).parked(failure)


class Judgement:
    """What both kinds of check have in common: ``with`` it, the check runs and nothing escapes."""

    __slots__ = (
        "_age",
        "_caught",
        "_outcome",
        "_too_early",
        "_verdict",
        "given",
        "row",
        "runs_check",
        "state",
    )

    def __init__(self, row: Any, age: float, caught: list[BaseException] | None) -> None:
        self.row, self._age, self._caught = row, age, caught
        self.state: State = type(row).state_graph.get(row.__dict__["state"])
        self._verdict = Verdict(row, key_of(row), row.__dict__["state_claim"], self.state)
        self._too_early = too_early(row, self.state, age)
        self._outcome: Outcome | None = None
        # What the check gets: the row, or the list of one that a state with ``batch`` has for it.
        self.given: Any = row if self.state.batch is None else [row]
        # Whether there is a check, and its time has come.
        self.runs_check = not self._too_early and self.state.checked

    @property
    def key(self) -> Any:
        """The row's primary key before the check."""
        return self._verdict.pk

    @property
    def check(self) -> str:
        """What messages call the check."""
        return self._verdict.check

    @property
    def failure(self) -> Failure | None:
        """What the row has failed with, so far."""
        return None if self._outcome is None else self._outcome.failure

    def __enter__(self) -> Self:
        unsaved.watch(self.row)
        return self

    def returned(self, result: Any) -> None:
        """The check has returned; raises if it returned what it may not."""
        if self.state.batch is not None:
            self.answered(*answers(self.check, result, [self.row], [self.key]))
            return
        if unsaved.is_watched(self.row):
            _warn_of_unsaved_fields(self.row, self.state)
        self._outcome = self._verdict.of_result(result)

    def answered(self, answer: Any) -> None:
        """The check of a batch has this for the row."""
        if unsaved.is_watched(self.row):
            _warn_of_unsaved_fields(self.row, self.state)
        try:
            refuse_answer(self.check, answer)
            if isinstance(answer, BaseException):
                self.raised(answer)
            else:
                self._outcome = self._verdict.of_result(answer)
        except Exception as error:
            self.raised(error)

    def raised(self, error: BaseException) -> None:
        """The check has raised, or it says that it would have, had the row been alone."""
        if isinstance(error, TryAgainLater):
            self._outcome = self._verdict.later(error)
            return
        self.note(error)
        self._outcome = self._verdict.failed(Failure.of(error))

    def note(self, error: BaseException) -> None:
        """Keep the exception for whoever wants it."""
        if self._caught is not None:
            self._caught.append(error)

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
        self.raised(error)
        return True

    def outcome(self) -> Outcome:
        """What the attempt came to."""
        if self._too_early:
            return self._verdict.stayed(self.state.start_after - self._age)
        outcome = self._outcome or self._verdict.stayed(None)
        return self._verdict.or_timeout(outcome, self._age)


def too_early(row: Any, state: State, age: float) -> bool:
    """A row inserted by plain SQL, due as it was born: it honours ``start_after`` here."""
    return age < state.start_after and row.state_next == row.state_changed


def _warn_of_unsaved_fields(row: Any, state: State) -> None:
    """In DEBUG only: a check that forgets ``save()`` loses what it worked out."""
    names = unsaved.fields(row)
    if names:
        logger.warning(
            "%s.%s left %s of %s %s unsaved; call save() before the check returns.",
            state.graph.__name__,
            state.transition_function,
            ", ".join(names),
            type(row)._meta.label,
            row.pk,
            extra={"action": "unsaved_fields", "model": type(row)._meta.label, "pk": row.pk},
        )


def is_interrupt(error: BaseException) -> bool:
    """Ctrl-C in the main thread: for whoever started the process, not for the row."""
    main = threading.current_thread() is threading.main_thread()
    return main and isinstance(error, KeyboardInterrupt)
