"""The threads in which async checks call what is not async: Django's ORM above all.

Their number is fixed, and so is that of their connections. asgiref would give every check without
a context the same single thread, and every check with one a new thread and a new connection.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from concurrent.futures import Future
from typing import Any

from django_fsmworker.exceptions import TimeoutError
from django_fsmworker.runner.async_checks.calls import Call, Calls, Line
from django_fsmworker.runner.database.connections import LONGEST_IDLE, ThreadConnections
from django_fsmworker.runner.database.outages import Outages
from django_fsmworker.runner.judging.interrupting import NOTHING, cancel_statement, set_async_exc
from django_fsmworker.store.errors import is_outage, tells_of


class CallThread(threading.Thread):
    """Runs the calls of one line, one after the other, each in a transaction state of its own."""

    def __init__(self, number: int, line: Line, outages: Outages) -> None:
        super().__init__(name=f"fsmworker-call-{number}", daemon=True)
        self._outages = outages
        self._line = line
        self._lock = threading.Lock()
        self._call: Call | None = None
        self._interrupted = False
        self.connections: ThreadConnections | None = None

    def run(self) -> None:
        self.connections = ThreadConnections()
        try:
            while self._line.thread is self:  # otherwise this one was given up for stuck
                try:
                    call = self._line.queue.get(timeout=LONGEST_IDLE)
                except queue.Empty:
                    self.connections.close()
                    continue
                if call is None:
                    return
                self._run_one(call, self.connections)
        finally:
            self.connections.close()

    def _run_one(self, call: Call, connections: ThreadConnections) -> None:
        if not call.future.set_running_or_notify_cancel():
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
            call.future.set_exception(error)
        else:
            call.future.set_result(result)

    def _outcome(self, call: Call) -> tuple[Any, BaseException | None]:
        """What the call returned or raised; an interruption may surface in any line up to _end."""
        result, failure = None, None
        with self._lock:
            self._call, self._interrupted = call, False
        try:
            try:
                result = call.function()
            except BaseException as error:
                failure = error
            self._end()
        except TimeoutError as error:
            failure = error
            self._end()
        return result, failure

    def _end(self) -> None:
        """From here on nobody interrupts; as ``interrupting.finish``."""
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
        """Whether it is busy with a call of that attempt."""
        call = self._call
        return call is not None and call.calls is calls

    def interrupt(self, calls: Calls) -> None:
        """End the call of that attempt, if it still runs here."""
        with self._lock:
            if not self.runs(calls) or self._interrupted:
                return
            self._interrupted = True
            set_async_exc(self.ident or 0, ctypes.py_object(TimeoutError))
            if self.connections is not None:
                cancel_statement(self.connections)


class CallThreads:
    """A fixed number of lines with a thread each, started when somebody first calls."""

    def __init__(self, number: int, outages: Outages) -> None:
        self._outages = outages
        self._lines = [Line() for _ in range(number)]
        self._lock = threading.Lock()
        self._started = 0

    def bind(self) -> Line:
        """The line with the fewest checks bound to it, one more now."""
        with self._lock:
            line = min(self._lines, key=lambda each: (each.bound, each.queue.qsize()))
            line.bound += 1
        return line

    def release(self, line: Line) -> None:
        """A check that was bound to it has ended; after the last one its thread tidies up."""
        with self._lock:
            line.bound -= 1
            if not line.bound:
                line.queue.put(Call(lambda: None, None))

    def submit(self, line: Line | None, calls: Calls | None, function: Any) -> Future[Any]:
        """Run ``function`` on the line's thread, or on the least busy one."""
        line = line or min(self._lines, key=lambda each: each.queue.qsize())
        call = Call(function, calls)
        line.queue.put(call)
        if line.thread is None:
            self._start(line)
        return call.future

    def interrupt(self, calls: Calls) -> None:
        """End what runs for that attempt: on a thread beside, since the driver may take a while."""
        for line in self._lines:
            thread = line.thread
            if thread is not None and thread.runs(calls):
                threading.Thread(
                    target=thread.interrupt, args=(calls,), name="fsmworker-cancel", daemon=True
                ).start()

    def abandon(self, calls: Calls) -> None:
        """A call of that attempt does not end: others go on in a new thread."""
        for line in self._lines:
            if line.thread is not None and line.thread.runs(calls):
                if line.thread.connections is not None:
                    line.thread.connections.cut()
                self._start(line, instead_of=line.thread)

    def stop(self, timeout: float) -> None:
        """End the threads once they have nothing to do."""
        threads = [line.thread for line in self._lines if line.thread is not None]
        for line in self._lines:
            line.queue.put(None)
        end = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _start(self, line: Line, instead_of: CallThread | None = None) -> None:
        with self._lock:
            if line.thread is instead_of:
                self._started += 1
                line.thread = CallThread(self._started, line, self._outages)
                line.thread.start()
