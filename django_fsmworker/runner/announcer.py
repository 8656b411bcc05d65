"""Announcing to receivers of signals what has happened to rows."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterable
from typing import Any

from django.db import connections

from django_fsmworker.logs import logger_for
from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.execution.writing import Signalling

logger = logger_for(__name__)


class Announcer:
    """Calls receivers on one of the engine's threads, which keeps its own connections for itself.

    For each signal receivers have a fresh context, and connections to which nobody else writes:
    whatever they leave behind, the engine's next write does not meet it. Neither do the receivers
    of the next signal. What ends a thread ends no announcing.
    """

    def __init__(self) -> None:
        self._own: ThreadConnections | None = None

    def announce(self, signals: Iterable[Signalling]) -> None:
        """Send ``signals``, one after the other."""
        for send in signals:
            self._send(send)

    def close(self) -> None:
        """Close the connections; on the thread that announced."""
        if self._own is not None:
            self._own.close()

    def _send(self, send: Signalling) -> None:
        engine = [connections[alias] for alias in connections]
        own = self._use_own()
        try:
            contextvars.Context().run(send)
        except BaseException as error:  # Django catches what they raise, but not all
            _raise_interrupt(error)
            logger.exception("A signal's receiver failed.", extra={"action": "receiver"})
        finally:
            own.after_attempt()
            for wrapper in engine:
                connections[wrapper.alias] = wrapper

    def _use_own(self) -> ThreadConnections:
        if self._own is None:
            self._own = ThreadConnections(beside_pool=True, for_user_code=True)
        self._own.use()
        return self._own


def _raise_interrupt(error: Any) -> None:
    """Ctrl-C in the main thread is for who started the process."""
    main = threading.current_thread() is threading.main_thread()
    if main and isinstance(error, KeyboardInterrupt):
        raise error
