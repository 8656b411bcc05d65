"""What a project puts around the calls of its checks: for context of its own.

Each middleware is a function that gets the attempt and returns a context manager. Where none is
declared, nothing is built and nothing is called.
"""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import cache
from typing import Any, Self

from django.core.signals import setting_changed

from django_fsmworker.conf import RunnerSettings, imported
from django_fsmworker.events.user_code import Surrounding
from django_fsmworker.models.companions import is_companion
from django_fsmworker.runner.execution.attempt_info import AttemptInfo
from django_fsmworker.runner.execution.spans import Spans
from django_fsmworker.runner.in_flight.attempts import Work, attempts_of
from django_fsmworker.traces import current_trace

Factory = Callable[[AttemptInfo], Any]


class AttemptMiddleware:
    """The middleware of one runner, the outermost first, as ``(name, function)``."""

    def __init__(self, factories: Sequence[tuple[str, Factory]], worker: str) -> None:
        self.factories = factories
        self.worker = worker

    @classmethod
    def of(cls, settings: RunnerSettings, worker: str) -> Self | None:
        """What the settings declare; None without any.

        Raises ``ConfigurationError`` for what cannot be imported.
        """
        factories: list[tuple[str, Factory]] = []
        if settings.traces:
            factories.append(("traces", Spans().around))
        for path in settings.attempt_middleware or ():
            factories.append((path, imported(path, "attempt_middleware")))
        return cls(factories, worker) if factories else None

    def around(self, work: Work) -> Around | None:
        """What is around the call of ``work``; None for the engine's own check of events."""
        return None if is_companion(work.model) else Around(self, work)


class Around:
    """What is around one call of a check, which is that of ``work`` if a runner makes it."""

    __slots__ = ("_middleware", "_work", "trace")

    def __init__(self, middleware: AttemptMiddleware, work: Work | None) -> None:
        self._middleware, self._work = middleware, work
        self.trace = ""
        """The ``traceparent`` of the span in which the check is called, once it has been."""

    def info(self, rows: list[Any], state: str, attempt: int) -> AttemptInfo:
        """What the middleware is told about the call."""
        first = rows[0]
        return AttemptInfo(
            type(first), state, rows, attempt, self._middleware.worker, first._state.db
        )

    @contextmanager
    def entered(self, info: AttemptInfo) -> Iterator[None]:
        """A context inside that of each middleware, the first outermost."""
        with ExitStack() as stack:
            for name, factory in self._middleware.factories:
                stack.enter_context(_manager(name, factory(info)))
            self._note_trace()
            yield

    @asynccontextmanager
    async def entered_async(self, info: AttemptInfo) -> AsyncIterator[None]:
        """A context inside that of each middleware, of which async context managers are awaited."""
        async with AsyncExitStack() as stack:
            for name, factory in self._middleware.factories:
                manager = factory(info)
                if hasattr(type(manager), "__aenter__"):
                    await stack.enter_async_context(manager)
                else:
                    stack.enter_context(_manager(name, manager))
            self._note_trace()
            yield

    def _note_trace(self) -> None:
        """Note which trace the call is part of, for the log and for rows that it moves."""
        self.trace = trace = current_trace()
        if self._work is not None:
            self._work.trace = trace
            for attempt in attempts_of(self._work):
                attempt.trace = trace


def _manager(name: str, manager: Any) -> Any:
    if hasattr(type(manager), "__enter__"):
        return manager
    if hasattr(type(manager), "__aenter__"):
        raise TypeError(
            f"{name} returned an async context manager, and the check is no async def; return one "
            f"that has __enter__, too."
        )
    raise TypeError(
        f"{name} returned {manager!r}; an attempt's middleware returns a context manager: decorate "
        f"it with contextlib.contextmanager."
    )


def around_inline(row: Any, worker: str) -> Around | None:
    """What is around a check that is called without a runner."""
    middleware = _inline(worker)
    return None if middleware is None or is_companion(type(row)) else Around(middleware, None)


def around_events(worker: str) -> Surrounding:
    """What calls the code of an event that is delivered to its row.

    An event is delivered inside the engine's own check, which has no middleware. Many are delivered
    in one call of it: what the code of one sets in its context is not for the next.
    """
    middleware = _inline(worker)
    if middleware is None:
        return lambda row, event, take: contextvars.copy_context().run(take, row, event)

    def call(row: Any, event: Any, take: Callable[[Any, Any], Any]) -> Any:
        return contextvars.copy_context().run(inside, row, event, take)

    def inside(row: Any, event: Any, take: Callable[[Any, Any], Any]) -> Any:
        around = Around(middleware, None)
        info = around.info([row], row.__dict__["state"], event.state_failures + 1)
        info.event = event
        with around.entered(info):
            return take(row, event)
        raise RuntimeError(
            f"An exception of {event.trigger} was swallowed by what is around attempts; let it "
            f"through."
        )

    return call


@cache
def _inline(worker: str) -> AttemptMiddleware | None:
    return AttemptMiddleware.of(RunnerSettings.load(), worker)


def _forget(**kwargs: Any) -> None:
    """Called when a test overrides settings."""
    _inline.cache_clear()


setting_changed.connect(_forget)
