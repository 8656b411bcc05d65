"""Functions of the project's own: at the start of a process, at its end, and meanwhile."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from django_fsmworker.conf import RunnerSettings, imported
from django_fsmworker.logs import logger_for
from django_fsmworker.runner.database.connections import ThreadConnections

logger = logger_for(__name__)

# Seconds after which a runner that waits for its hooks looks whether it is to stop.
LOOK = 0.1

Hook = tuple[str, Callable[[Any], object]]


class Hooks(threading.Thread):
    """A thread that calls the hooks of a process, with connections that they may use.

    They get the runner that was ready first, where the process has several. What a hook raises is
    logged, and ends nothing. Each call has a fresh context. The hooks for the end have ``patience``
    seconds.
    """

    def __init__(
        self,
        start: Sequence[Hook],
        end: Sequence[Hook],
        periodic: Sequence[Hook],
        interval: float,
        patience: float,
    ) -> None:
        super().__init__(name="fsmworker-hooks", daemon=True)
        self._runner: Any = None
        self._lock = threading.Lock()
        self._at_start, self._at_end, self._periodic = start, end, periodic
        self._interval, self._patience = interval, patience
        self._begun = threading.Event()
        self._stopped = threading.Event()

    @classmethod
    def of(cls, settings: RunnerSettings) -> Self | None:
        """The hooks that the settings name; None without any.

        Raises ``ConfigurationError`` for what cannot be imported.
        """
        start = _hooks(settings.start_hooks, "start_hooks")
        end = _hooks(settings.end_hooks, "end_hooks")
        periodic = _hooks(settings.periodic_hooks, "periodic_hooks")
        if not (start or end or periodic):
            return None
        return cls(start, end, periodic, settings.hook_interval, settings.drain_timeout)

    def run(self) -> None:
        own = ThreadConnections(beside_pool=True, for_user_code=True)
        try:
            self._call(self._at_start, own)
            self._begun.set()
            while not self._stopped.wait(self._interval if self._periodic else None):
                self._call(self._periodic, own)
            self._call(self._at_end, own)
        finally:
            own.close()

    def begin(self, runner: Any, is_over: Callable[[], bool]) -> None:
        """Return when the hooks for the start have, or there is nothing to begin.

        They are called for the first runner that is ready; the others wait for them, too.
        """
        with self._lock:
            if self._runner is None:
                self._runner = runner
                self.start()
        while not (self._begun.wait(LOOK) or is_over()):
            pass

    def end(self) -> None:
        """Call the hooks for the end, if those for the start have been called."""
        if self._runner is None:
            return
        self._stopped.set()
        self.join(self._patience)
        if self.is_alive():
            logger.warning(
                "The hooks for the end did not return within %.0f s; the runner ends.",
                self._patience,
                extra={"action": "hooks_late"},
            )

    def _call(self, hooks: Iterable[Hook], own: ThreadConnections) -> None:
        for name, hook in hooks:
            try:
                contextvars.Context().run(hook, self._runner)
            except BaseException:
                logger.exception("The hook %s failed.", name, extra={"action": "hook_failed"})
            own.after_attempt()


def _hooks(paths: Sequence[str] | None, setting: str) -> list[Hook]:
    return [(path, imported(path, setting)) for path in paths or ()]
