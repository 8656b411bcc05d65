"""The calls that one async check makes into threads."""

from __future__ import annotations

import asyncio
import contextvars
import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

if TYPE_CHECKING:
    from django_fsmworker.runner.async_checks.call_threads import CallThread, CallThreads
    from django_fsmworker.runner.work.batch import Work

OF_THIS_CHECK: contextvars.ContextVar[Calls] = contextvars.ContextVar("calls_of_this_check")


class Line:
    """The calls that wait for one thread, and how many checks keep to it."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self.thread: CallThread | None = None
        self.bound = 0


class Calls:
    """Passed to asgiref as the executor of one check's thread-sensitive calls.

    All of them go to one thread, as asgiref promises: an ``async for`` over a queryset reads from
    one connection. Which thread that is, is decided at the first call.
    """

    def __init__(self, threads: CallThreads, work: Work) -> None:
        self._threads = threads
        self._line: Line | None = None
        self.work = work
        self.pending: set[Future[Any]] = set()
        self.lost = False
        self.left_open = False

    def enter(self) -> None:
        """Let the running task, and the tasks that it starts, call through here."""
        context = ThreadSensitiveContext()
        SyncToAsync.thread_sensitive_context.set(context)
        SyncToAsync.context_to_thread_executor[context] = self  # type: ignore[assignment]
        OF_THIS_CHECK.set(self)

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """What asgiref calls; as ``concurrent.futures.Executor.submit``."""
        if self._line is None:
            self._line = self._threads.bind()
        return self._submit(self._line, partial(function, *args, **kwargs))

    def submit_anywhere(self, function: Callable[[], Any]) -> Future[Any]:
        """A call that need not keep to the check's thread."""
        return self._submit(None, function)

    def _submit(self, line: Line | None, function: Callable[[], Any]) -> Future[Any]:
        future = self._threads.submit(line, self, function)
        self.pending.add(future)
        future.add_done_callback(self.pending.discard)
        return future

    def interrupt(self) -> None:
        """End the call that runs."""
        if self.pending:
            self._threads.interrupt(self)

    def abandon(self) -> None:
        """The call does not end; let others have its thread's place."""
        if self.pending:
            self._threads.abandon(self)

    async def ended(self) -> None:
        """Wait for what still runs: the row is not free while code of its check is at work."""
        while pending := tuple(self.pending):
            with suppress(asyncio.CancelledError):
                await asyncio.wait([asyncio.wrap_future(each) for each in pending])

    def close(self) -> None:
        """The check has ended."""
        line, self._line = self._line, None
        if line is not None:
            self._threads.release(line)


class Call:
    """One function and the future of its result."""

    def __init__(self, function: Callable[[], Any], calls: Calls | None) -> None:
        self.function = function
        self.calls = calls
        self.future: Future[Any] = Future()

    def note(self, lost: bool, open: bool) -> None:
        """What became of the connections under it."""
        if self.calls is not None:
            self.calls.lost |= lost
            self.calls.left_open |= open


class DefaultExecutor(ThreadPoolExecutor):
    """The loop's own, for ``asyncio.to_thread`` and host names: the same bounded threads."""

    def __init__(self, threads: CallThreads) -> None:
        super().__init__(max_workers=1)
        self._call_threads = threads

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        calls = OF_THIS_CHECK.get(None)
        function = partial(fn, *args, **kwargs)
        if calls is not None:
            return calls.submit_anywhere(function)
        return self._call_threads.submit(None, None, function)
