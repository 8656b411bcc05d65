"""The threads in which async code of checks calls what is not async: Django's ORM above all.

Their number is fixed, and so is that of their connections. asgiref would give every check without
a context the same single thread, and every check with one a new thread and a new connection. It is
the same for a plain check that calls ``asyncio.run()``.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.runner.database.connections import (
    LONGEST_IDLE,
    StatementLimits,
    ThreadConnections,
)
from django_fsmworker.runner.database.outages import OutageTracker
from django_fsmworker.runner.execution.interruption import cancel_statement
from django_fsmworker.runner.in_flight.attempts import NOTHING, Work, set_async_exc
from django_fsmworker.store.errors import is_outage, tells_of
from django_fsmworker.thread_starter import prepare_to_start_threads, start_elsewhere

# Seconds between two looks of a thread that waits for calls.
BRIEFLY = 0.005

OF_THIS_CHECK: contextvars.ContextVar[Calls] = contextvars.ContextVar("calls_of_this_check")


class Line:
    """The calls that wait for one thread; ``bound`` is the number of checks that keep to it."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._since: deque[float] = deque()
        self.thread: CallThread | None = None
        self.bound = 0

    def put(self, call: Call | None) -> None:
        """Append a call; None tells the thread to end."""
        self._since.append(time.monotonic())
        self._queue.put(call)

    def get(self, timeout: float) -> Call | None:
        """The next call; raises ``queue.Empty`` after ``timeout`` seconds."""
        call = self._queue.get(timeout=timeout)
        self._since.popleft()
        return call

    @property
    def waiting(self) -> int:
        """The number of calls that wait."""
        return self._queue.qsize()

    def delay(self) -> float:
        """The seconds for which the first call has been waiting; 0 if none is."""
        try:
            return time.monotonic() - self._since[0]
        except IndexError:
            return 0.0


class Calls:
    """The calls of one check; asgiref takes this as the executor of its thread-sensitive calls.

    All of them go to one thread, as asgiref promises: an ``async for`` over a queryset reads from
    one connection. Which thread that is, is decided at the first call.
    """

    def __init__(self, threads: CallThreads, work: Work | None = None) -> None:
        self._threads = threads
        self._line: Line | None = None
        self.work = work
        self.pending: set[Call] = set()
        self.used = self.lost = self.left_open = False

    def enter(self) -> None:
        """Let the running task, and the tasks that it starts, call through here."""
        context = ThreadSensitiveContext()
        SyncToAsync.thread_sensitive_context.set(context)
        SyncToAsync.context_to_thread_executor[context] = self  # type: ignore[assignment]
        OF_THIS_CHECK.set(self)

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call on the check's thread, as ``concurrent.futures.Executor.submit`` would."""
        self.used = True
        if self._line is None:
            self._line = self._threads.bind()
        return self._submit(self._line, partial(function, *args, **kwargs))

    def submit_anywhere(self, function: Callable[[], Any]) -> Future[Any]:
        """Run a call that need not keep to the check's thread."""
        self.used = True
        return self._submit(None, function)

    def _submit(self, line: Line | None, function: Callable[[], Any]) -> Future[Any]:
        call = self._threads.submit(line, self, function)
        self.pending.add(call)
        call.add_done_callback(self.pending.discard)
        return call

    def interrupt(self) -> None:
        """End the calls that run for this check; those that a thread just takes do not begin."""
        for call in tuple(self.pending):
            call.unwanted = True
        if self.pending:
            self._threads.interrupt(self)

    def abandon(self) -> None:
        """Give up a call that does not end: other checks go on in a new thread."""
        if self.pending:
            self._threads.abandon(self)

    async def ended(self) -> None:
        """Wait for calls that still run: the row is not free while its check's code is at work."""
        while pending := tuple(self.pending):
            futures = [asyncio.wrap_future(each) for each in pending]
            for future in futures:
                future.add_done_callback(_take_exception)
            with suppress(asyncio.CancelledError):
                await asyncio.wait(futures)

    def wait(self) -> None:
        """Wait on a thread for calls that still run; an exception may be injected meanwhile."""
        # Not for the futures: an exception that comes while a lock is taken leaves it locked.
        while self.pending:
            time.sleep(BRIEFLY)

    def close(self) -> None:
        """Let go of the check's thread, once the check has ended; the next one begins anew."""
        self.used = self.lost = self.left_open = False
        line, self._line = self._line, None
        if line is not None:
            self._threads.release(line)


def _take_exception(future: asyncio.Future[Any]) -> None:
    """Its caller is gone: an exception that nobody takes would be logged by asyncio."""
    if not future.cancelled():
        future.exception()


class Call(Future[Any]):
    """One function and its result to come."""

    def __init__(self, function: Callable[[], Any], calls: Calls | None) -> None:
        super().__init__()
        self.function = function
        self.calls = calls
        self.unwanted = False

    def note(self, lost: bool, open: bool) -> None:
        """Note for the check if a connection was lost under the call, or left in a transaction."""
        if self.calls is not None:
            self.calls.lost |= lost
            self.calls.left_open |= open


class CallThread(threading.Thread):
    """A thread that runs the calls of one line, one after the other, with its own connections."""

    def __init__(
        self, number: int, line: Line, outages: OutageTracker, limits: StatementLimits
    ) -> None:
        super().__init__(name=f"fsmworker-call-{number}", daemon=True)
        self._outages = outages
        self._limits = limits
        self._line = line
        self._lock = threading.Lock()
        self._call: Call | None = None
        self._interrupted = False
        self.connections: ThreadConnections | None = None

    def run(self) -> None:
        self.connections = ThreadConnections(for_user_code=True, shared=True, limits=self._limits)
        try:
            while self._line.thread is self:  # otherwise this one was given up for stuck
                try:
                    call = self._line.get(LONGEST_IDLE)
                except queue.Empty:
                    self.connections.close()
                    continue
                if call is None:
                    return
                self._run_one(call, self.connections)
        finally:
            self.connections.close()

    def _run_one(self, call: Call, connections: ThreadConnections) -> None:
        if not call.set_running_or_notify_cancel():
            return
        connections.drop_older_than(self._outages.doubted_before)
        result, error = self._outcome(call)
        lost = error is not None and (tells_of(error, is_outage) or connections.lost())
        call.note(lost=lost, open=connections.left_open())
        if self._interrupted:
            connections.close()  # they may be in any state
        else:
            connections.after_attempt(keep=self._line.bound > 0)
        if error is not None:
            call.set_exception(error)
        else:
            call.set_result(result)

    def _outcome(self, call: Call) -> tuple[Any, BaseException | None]:
        """The call's result or exception; an interruption may surface in any line up to _end."""
        result, failure = None, None
        try:
            try:
                with self._lock:
                    self._call, self._interrupted = call, False
                if call.unwanted:  # before there was somebody to interrupt
                    raise TimeoutError("The check was interrupted before its call began.")
                result = contextvars.Context().run(call.function)
            except BaseException as error:
                failure = error
            self._end()
        except TimeoutError as error:
            failure = error
            self._end()
        return result, failure

    def _end(self) -> None:
        """Let nobody interrupt from here on; an exception that is on its way is taken back."""
        while True:
            try:
                with self._lock:
                    self._call = None
                    if self._interrupted:
                        set_async_exc(threading.get_ident(), NOTHING)
                return
            except TimeoutError:
                continue

    def runs(self, calls: Calls) -> bool:
        """Whether the thread is busy with one of these calls."""
        call = self._call
        return call is not None and call.calls is calls

    def interrupt(self, calls: Calls) -> None:
        """End one of these calls, if it still runs here."""
        with self._lock:
            if not self.runs(calls) or self._interrupted:
                return
            self._interrupted = True
            set_async_exc(self.ident or 0, ctypes.py_object(TimeoutError))
            if self.connections is not None:
                cancel_statement(self.connections)


class CallThreads:
    """A fixed number of lines with a thread each, started when somebody first calls."""

    def __init__(self, number: int, outages: OutageTracker, limits: StatementLimits) -> None:
        self._outages = outages
        self._limits = limits
        prepare_to_start_threads()
        self._lines = [Line() for _ in range(number)]
        self._lock = threading.Lock()
        self._started = 0

    def bind(self) -> Line:
        """Bind a check to the line to which the fewest are bound."""
        with self._lock:
            line = min(self._lines, key=lambda each: (each.bound, each.waiting))
            line.bound += 1
        return line

    def release(self, line: Line) -> None:
        """Undo ``bind`` for a check that has ended; after the last one the thread tidies up."""
        with self._lock:
            line.bound -= 1
            if not line.bound:
                line.put(Call(lambda: None, None))

    def submit(self, line: Line | None, calls: Calls | None, function: Any) -> Call:
        """Run ``function`` on the line's thread, or on the least busy one."""
        line = line or min(self._lines, key=lambda each: each.waiting)
        call = Call(function, calls)
        line.put(call)
        if line.thread is None:
            self._start(line)
        return call

    def delay(self) -> float:
        """The seconds for which calls have to wait, whichever line they are in."""
        return min(line.delay() for line in self._lines)

    def interrupt(self, calls: Calls) -> None:
        """End the call that runs, on a thread beside, since the driver may take a while."""
        for line in self._lines:
            thread = line.thread
            if thread is not None and thread.runs(calls):
                threading.Thread(
                    target=thread.interrupt, args=(calls,), name="fsmworker-cancel", daemon=True
                ).start()

    def abandon(self, calls: Calls) -> None:
        """Give up the thread of a call that does not end: others go on in a new one."""
        for line in self._lines:
            if line.thread is not None and line.thread.runs(calls):
                if line.thread.connections is not None:
                    line.thread.connections.cut()
                self._start(line, instead_of=line.thread)

    def stop(self, timeout: float) -> None:
        """End the threads once they have nothing to do; waits ``timeout`` seconds at the most."""
        threads = [line.thread for line in self._lines if line.thread is not None]
        for line in self._lines:
            line.put(None)
        end = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _start(self, line: Line, instead_of: CallThread | None = None) -> None:
        with self._lock:
            if line.thread is instead_of:
                self._started += 1
                line.thread = CallThread(self._started, line, self._outages, self._limits)
                start_elsewhere(line.thread)


class DefaultExecutor(ThreadPoolExecutor):
    """The default executor of a loop, for ``asyncio.to_thread``: the same bounded threads."""

    def __init__(self, threads: CallThreads) -> None:
        super().__init__(max_workers=1)
        self._call_threads = threads

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        calls = OF_THIS_CHECK.get(None)
        function = partial(fn, *args, **kwargs)
        if calls is not None:
            return calls.submit_anywhere(function)
        return self._call_threads.submit(None, None, function)
