"""Every exception of this package; the text of each says what to do next."""

from __future__ import annotations

from datetime import timedelta


class FSMWorkerError(Exception):
    """Base of the errors this package raises on purpose."""


class GraphError(FSMWorkerError, ValueError):
    """A state graph is declared wrongly; raised while its class is created."""


class UnknownState(FSMWorkerError, ValueError):
    """A name that the graph does not declare was used as a state."""


class UndeclaredTransition(FSMWorkerError, ValueError):
    """A check returned, or a caller asked for, a transition that the graph does not declare."""


class StaleState(FSMWorkerError):
    """Somebody else moved the row since it was loaded; nothing was written."""


class ConfigurationError(FSMWorkerError):
    """A setting, an option or the database is not as a runner needs it."""


class TryAgainLater(Exception):
    """Raise it anywhere below a check to leave the row where it is and try again later.

    ``delay`` is seconds or a ``timedelta``; without it the state's ``retry_after`` counts. It is
    not a failure: nothing is recorded and the count of failures starts again.
    """

    delay: float | timedelta | None = None

    def __init__(self, delay: float | timedelta | None = None) -> None:
        super().__init__(delay)
        self.delay = delay


class TimeoutError(BaseException):
    """Raised inside a check whose deadline has passed.

    Derived from ``BaseException`` so that an ``except Exception`` in the check does not swallow it.
    Catch it to clean up, then let it go on; the attempt is recorded as overrun either way.
    """


class ProcessDied(FSMWorkerError):
    """The process that ran the row ended, or lost the database for longer than its lease."""


class TransactionLeftOpen(FSMWorkerError):
    """A check began a transaction and did not end it; it was rolled back."""
