"""The exceptions of this package; the message of each says what to do next."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

Refusal: TypeAlias = Literal["unknown_event", "source_state", "condition", "permission", "running"]
"""Why a move of a row is not allowed."""

_DURATIONS = (int, float, timedelta)
_NO_DURATION = (
    "{} takes a number of seconds or a timedelta, not {!r}; convert a Retry-After header, which is "
    "text: a number, or a date."
)


class FSMWorkerError(Exception):
    """Base class of the errors that this package raises."""


class GraphError(FSMWorkerError, ValueError):
    """A state graph breaks a rule; raised when its class is created.

    The message names the graph, the state and the remedy.
    """


class UnknownState(FSMWorkerError, ValueError):
    """A state was named that the graph does not declare; the message lists those it declares."""


class UndeclaredTransition(FSMWorkerError, ValueError):
    """A check returned, or a caller requested, a transition that the graph does not declare."""


class StaleState(FSMWorkerError):
    """The row was moved by another process or thread since it was loaded; nothing was written.

    Load the row again before deciding anew.
    """


class NotAllowed(FSMWorkerError):
    """A row may not be moved as a caller asked; nothing was written.

    :param message: a sentence for developers and logs.
    :param reason: which rule it breaks.
    :param user_message: a sentence for the people who use your application, as a lazy translation.
    """

    reason: Refusal
    """``"source_state"``: the row is in a state from which the move is not allowed. ``"running"``:
    a runner holds the row. ``"unknown_event"``, ``"condition"`` and ``"permission"`` belong to
    moves that are more than a transition.
    """

    user_message: Any
    """A sentence for the people who use your application, as a lazy translation."""

    def __init__(self, message: str, reason: Refusal, user_message: Any = "") -> None:
        super().__init__(message)
        self.reason, self.user_message = reason, user_message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.reason, self.user_message)


class ConfigurationError(FSMWorkerError):
    """A setting, an option or the database does not allow a runner to start."""


class TryAgainLater(Exception):
    """Raised anywhere below a check, it leaves the row in its state until the next try.

    It is not a failure: nothing is recorded, and the count of failures starts again at zero.

    :param delay: seconds, or a ``timedelta``, until the next try; without it the ``retry_after`` of
        the row's state. ``TypeError`` is raised for anything else, such as the text of an HTTP
        header.
    :param keep_failures: whether the count of failures, and the record of the last one, stay as
        they are.
    """

    delay: float | timedelta | None = None
    keep_failures: bool = False

    def __init__(
        self, delay: float | timedelta | None = None, *, keep_failures: bool = False
    ) -> None:
        super().__init__(delay)
        if delay is not None and (isinstance(delay, bool) or not isinstance(delay, _DURATIONS)):
            raise TypeError(_NO_DURATION.format("TryAgainLater", delay))
        self.delay, self.keep_failures = delay, keep_failures


class Retry(Exception):
    """Raised in a check, it is a failure like any other exception, and says when to try again.

    It is recorded and counted; after ``max_attempts`` failures in a row the row goes where it goes
    after any other, and is not tried again.

    :param after: seconds, or a ``timedelta``, until the next try, in place of the backoff of the
        row's state. ``TypeError`` is raised for anything else, such as the text of an HTTP header.
    :param message: what is put on record.
    """

    def __init__(self, after: float | timedelta, message: str = "") -> None:
        if isinstance(after, bool) or not isinstance(after, _DURATIONS):
            raise TypeError(_NO_DURATION.format("Retry", after))
        super().__init__(after, message)
        self.after, self.message = after, message

    def __str__(self) -> str:
        after = self.after if isinstance(self.after, timedelta) else f"{self.after} s"
        return self.message or f"The check asked for another try after {after}."


class Pause(Exception):
    """Raised in a check, it pauses what the row belongs to, for the whole fleet.

    The row is tried again when the pause is over. It is not a failure: nothing is recorded, and the
    count of failures stays as it is. For an answer such as HTTP's 429 with ``Retry-After``.

    :param until: a number of seconds, a ``timedelta``, or the moment as a ``datetime``, by the
        clock of this machine. ``TypeError`` is raised for anything else, such as the text of an
        HTTP header.
    :param key: a value of the column by which the row's state is limited (``limit_by``,
        ``rate_by``, ``fair_by``): only rows with that value are paused. Without it the state is.
        One that the column does not take is a failure of the row.
    :param reason: what is put on record.
    """

    def __init__(
        self, until: float | timedelta | datetime, *, key: Any = ..., reason: str = ""
    ) -> None:
        if isinstance(until, bool) or not isinstance(until, (*_DURATIONS, datetime)):
            raise TypeError(_NO_DURATION.format("Pause", until))
        super().__init__(until, reason)
        self.until, self.key, self.reason = until, key, reason


def answer_in(error: BaseException) -> BaseException:
    """The first ``TryAgainLater``, ``Retry`` or ``Pause`` of a group that holds nothing else.

    ``asyncio.TaskGroup`` raises what its tasks have raised as a group. Anything else, and a group
    that holds several kinds, is returned as it is.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [answer_in(each) for each in error.exceptions]
        for kind in (TryAgainLater, Retry, Pause):
            if all(isinstance(each, kind) for each in found):
                return found[0]
    return error


class TimeoutError(BaseException):
    """Raised inside a check whose deadline has passed.

    It derives from ``BaseException``, so that an ``except Exception`` in the check does not swallow
    it. Clean up in a ``finally``. The attempt is a failure, whether the check swallows it or not.
    """


class WorkerUnavailable(FSMWorkerError):
    """An order to a worker that takes none: it has stopped, is stopping, or is lost."""


class ProcessDied(FSMWorkerError):
    """A failure record's error: the process that ran the row ended, or was without its database
    for longer than its lease. It is recorded, never raised.
    """


class StillThere(FSMWorkerError):
    """A failure record's error: a row that has outlived its state is there after its ``delete()``.

    The deletion was rolled back. Let ``delete()`` move the row to a state without ``delete_after``,
    or the model's default manager hide the row.
    """


class ActionOverran(FSMWorkerError):
    """A failure record's error: an event's action did not end within the runner's deadline.

    What it did was rolled back; the event is tried again, as after any other failure.
    """


class TransactionLeftOpen(FSMWorkerError):
    """A failure record's error: a check began a transaction and did not end it.

    The transaction was rolled back.
    """


class Parked(FSMWorkerError):
    """A failure record's error: somebody parked a row that had not failed.

    It is recorded, never raised.
    """
