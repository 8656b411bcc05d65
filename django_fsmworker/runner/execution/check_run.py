"""One call of a check, sync or async, for one row or for a batch, and the outcomes of its rows."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation
from django.db.models import QuerySet

from django_fsmworker.exceptions import Pause, Retry, TryAgainLater, answer_in
from django_fsmworker.graph import State
from django_fsmworker.logs import logger_for
from django_fsmworker.models import unsaved
from django_fsmworker.models.keys import with_keys
from django_fsmworker.runner.execution.ages import outlived, too_early
from django_fsmworker.runner.execution.answers import answers, refuse_answer
from django_fsmworker.runner.execution.attempt_info import AttemptInfo
from django_fsmworker.runner.execution.middleware import Around, AttemptMiddleware
from django_fsmworker.runner.execution.outcomes import OutcomeBuilder
from django_fsmworker.runner.in_flight.attempts import Attempt, Batch, Work, attempts_of
from django_fsmworker.store import Fence
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.fence import Outcome

logger = logger_for(__name__)

Errors = list[BaseException]
Ended = TypeVar("Ended")


class _Run(Generic[Ended]):
    """What both shapes of a call have in common: nothing that a check raises gets through.

    Ctrl-C in the main thread does.
    """

    __slots__ = ()

    state: State
    given: Any
    runs_check: bool
    around: Around | None

    def run(self) -> Ended:
        """Call a sync check, if its time has come; returns what that came to."""
        if self.runs_check:
            self._begin()
            try:
                if self.around is None:
                    self._returned(self.state.handler(self.given))
                else:
                    self._run_inside(self.around)
            except BaseException as error:
                self._raised(answer_in(_unless_interrupt(error)))
        return self._ended()

    async def run_async(self) -> Ended:
        """Await an ``async def`` check on the event loop that runs this, as ``run()`` does."""
        if self.runs_check:
            self._begin()
            try:
                if self.around is None:
                    result = self.state.handler(self.given)
                    self._returned(await result if inspect.isawaitable(result) else result)
                else:
                    await self._run_inside_async(self.around)
            except BaseException as error:
                self._raised(answer_in(_unless_interrupt(error)))
        return self._ended()

    def _run_inside(self, around: Around) -> None:
        info = self._info(around)
        with around.entered(info):
            self._returned(self.state.handler(self.given))
            info.target = self._target()

    async def _run_inside_async(self, around: Around) -> None:
        info = self._info(around)
        async with around.entered_async(info):
            result = self.state.handler(self.given)
            self._returned(await result if inspect.isawaitable(result) else result)
            info.target = self._target()

    def run_here(self) -> Ended:
        """Run either kind of check on the calling thread; an async one gets a loop for itself.

        What it calls through ``sync_to_async`` runs on this thread, and in its transaction.
        """
        if self.state.is_async:
            ended: Ended = async_to_sync(self.run_async)()
            return ended
        return self.run()

    def _info(self, around: Around) -> AttemptInfo:
        raise NotImplementedError

    def _target(self) -> str | None:
        """The state to which the one row goes, once its check has returned."""
        return None

    def _begin(self) -> None:
        raise NotImplementedError

    def _returned(self, result: Any) -> None:
        raise NotImplementedError

    def _raised(self, error: BaseException) -> None:
        raise NotImplementedError

    def _ended(self) -> Ended:
        raise NotImplementedError


class CheckRun(_Run[Outcome]):
    """The call for one row, which entered its state ``age`` seconds ago; it comes to an outcome.

    ``builder`` has the row, and makes the outcome. ``caught`` is a list for the exceptions
    themselves, beside the text that goes on record. ``around`` is what the project puts around it.
    """

    __slots__ = (
        "_age",
        "_builder",
        "_caught",
        "_outcome",
        "_too_early",
        "around",
        "given",
        "row",
        "runs_check",
        "state",
    )

    def __init__(
        self,
        builder: OutcomeBuilder,
        age: float,
        caught: Errors | None = None,
        around: Around | None = None,
    ) -> None:
        self.around = around
        self._builder, self._age, self._caught = builder, age, caught
        self.row, self.state = row, state = builder.row, builder.state
        is_over = state.lifetime_state is not None and outlived(row, state, age)
        # too_early() itself is called only where it may be so: this is run for every row.
        self._too_early = not is_over and age < state.start_after and too_early(row, state, age)
        self._outcome: Outcome | None = None
        # A state with ``batch`` has a list of one for its check.
        self.given: Any = row if state.batch is None else [row]
        self.runs_check = state.checked and not (self._too_early or is_over)

    def answered(self, answer: Any) -> None:
        """Take the row's own answer out of those for a batch."""
        self._look_for_unsaved_fields()
        try:
            refuse_answer(self._builder.check, answer)
            if isinstance(answer, BaseException):
                self._raised(answer)
            else:
                self._outcome = self._builder.of_answer(answer)
        except Exception as error:
            self._raised(error)

    def note(self, error: BaseException) -> None:
        """Keep the exception for the caller who asked for it."""
        if self._caught is not None:
            self._caught.append(error)

    def _info(self, around: Around) -> AttemptInfo:
        return around.info([self.row], self.state.name, self._builder.failures + 1)

    def _target(self) -> str | None:
        return None if self._outcome is None else self._outcome.target

    def _begin(self) -> None:
        if unsaved.in_debug():
            unsaved.watch(self.row)

    def _returned(self, result: Any) -> None:
        if self.state.batch is not None:
            self.answered(*answers(self._builder.check, result, [self.row], [self._builder.pk]))
            return
        if unsaved.SEEN in self.row.__dict__:
            self._look_for_unsaved_fields()
        self._outcome = self._builder.of_answer(result)

    def _raised(self, error: BaseException) -> None:
        if isinstance(error, TryAgainLater):
            self._outcome = self._builder.later(error)
            return
        if isinstance(error, Pause):
            self._outcome = self._builder.paused(error)
            return
        self.note(error)
        if isinstance(error, Retry):
            self._outcome = self._builder.retried(error)
            return
        self._outcome = self._builder.failed(Failure.of(error))

    def _ended(self) -> Outcome:
        if self._too_early:
            return self._builder.stayed(self.state.start_after - self._age)
        # What is written and resolved follows from what the row had, whatever the check made of it.
        self.row.__dict__["state_failures"] = self._builder.found
        outcome = self._outcome or self._builder.stayed(None)
        outcome = self._builder.or_timeout(outcome, self._age)
        if self.around is not None and self.runs_check:
            outcome.trace = self.around.trace
        return outcome

    def _look_for_unsaved_fields(self) -> None:
        """In DEBUG only: a check that forgets ``save()`` loses what it worked out."""
        names = unsaved.fields(self.row) if unsaved.SEEN in self.row.__dict__ else []
        if names:
            label = type(self.row)._meta.label
            logger.warning(
                "%s left %s of %s %s unsaved; call save() before the check returns.",
                self._builder.check,
                ", ".join(names),
                label,
                self.row.pk,
                extra={"action": "unsaved_fields", "model": label, "pk": self.row.pk},
            )


class BatchCheckRun(_Run[list[Outcome] | Failure]):
    """The one call for several rows in the same state; it comes to an outcome for each.

    A ``Failure`` is that of the call, as far as nobody can tell which row is to blame for it.
    ``caught`` has a list for each row.
    """

    def __init__(
        self,
        builders: Sequence[OutcomeBuilder],
        ages: Sequence[float],
        caught: Sequence[Errors] | None = None,
        around: Around | None = None,
    ) -> None:
        self.around = around
        self._runs = [
            CheckRun(builder, age, caught[at] if caught else None, around)
            for at, (builder, age) in enumerate(zip(builders, ages, strict=True))
        ]
        self._asked = [each for each in self._runs if each.runs_check]
        self._failure: Failure | None = None
        self.state = self._runs[0].state
        # A list of the check's own, which may do with it what it likes.
        self.given = [each.row for each in self._asked]
        self.runs_check = bool(self._asked)

    def _info(self, around: Around) -> AttemptInfo:
        attempt = max(each._builder.failures for each in self._asked) + 1
        return around.info([each.row for each in self._asked], self.state.name, attempt)

    def _begin(self) -> None:
        if unsaved.in_debug():
            for each in self._asked:
                unsaved.watch(each.row)

    def _returned(self, result: Any) -> None:
        rows, keys = [each.row for each in self._asked], [each._builder.pk for each in self._asked]
        found = answers(self._asked[0]._builder.check, result, rows, keys)
        for each, answer in zip(self._asked, found, strict=True):
            each.answered(answer)

    def _raised(self, error: BaseException) -> None:
        if isinstance(error, TryAgainLater):  # for all; if its delay is none, nobody is to blame
            for each in self._asked:
                each._raised(error)
            self._failure = self._asked[0]._ended().failure
            return
        if isinstance(error, Pause | Retry):  # likewise; of Retry each row has failed
            for each in self._asked:
                each._raised(error)
            return
        self._failure = Failure.of(error)
        for each in self._asked:
            each.note(error)

    def _ended(self) -> list[Outcome] | Failure:
        return self._failure or [each._ended() for each in self._runs]


def run_of(work: Work, middleware: AttemptMiddleware | None) -> CheckRun | BatchCheckRun:
    """The call for the work that an executor has just started."""
    around = None if middleware is None else middleware.around(work)
    started = work.started or 0.0
    if isinstance(work, Batch):
        builders = [OutcomeBuilder.of(each) for each in work.attempts]
        ages = [each.age(started) for each in work.attempts]
        return BatchCheckRun(builders, ages, around=around)
    # As of() and age() have it, without their calls: this is run for every row.
    builder = OutcomeBuilder(work.row, work.pk, work.token, work.state)
    return CheckRun(builder, work.age_at_claim + started - work.claimed, None, around)


def refuse_running_loop(models: Iterable[Any], verb: str) -> None:
    """Raise ``SynchronousOnlyOperation`` where ``run_here()`` could run no async check."""
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


def _unless_interrupt(error: BaseException) -> BaseException:
    """``error``, but raised again if it is Ctrl-C: for who started the process, not for the row."""
    main = threading.current_thread() is threading.main_thread()
    if main and isinstance(error, KeyboardInterrupt):
        raise error
    return error


def reload(work: Work, give_back: Callable[[Attempt, None], None]) -> bool:
    """Give stale rows fresh instances; False if none of the rows is still held here.

    They were in a batch that came to nothing: its call may have changed the old instances, which
    the next one must not see. A batch that keeps others gives the lost ones back and goes on
    without them.
    """
    attempts = attempts_of(work)
    stale = [each for each in attempts if each.stale]
    found = held(work.store.alias, work.model, [each.fence for each in stale])
    for each in stale:
        if each.pk in found:
            each.row, each.stale = found[each.pk], False
    gone = [each for each in stale if each.stale]
    if len(gone) == len(attempts):
        return False
    if isinstance(work, Batch):
        work.attempts, work.stale = [each for each in attempts if not each.stale], False
    for each in gone:
        give_back(each, None)
    return True


def held(alias: str, model: Any, fences: Sequence[Fence]) -> dict[Any, Any]:
    """By key, those of these rows that still have their state and their claim."""
    tokens = {fence.pk: fence.token for fence in fences}
    rows: QuerySet[Any] = QuerySet(model, using=alias)
    found = rows.filter(with_keys(model, list(tokens)), state__in={fence.state for fence in fences})
    return {row.pk: row for row in found if row.state_claim == tokens[row.pk]}
