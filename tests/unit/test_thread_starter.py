"""Threads are started beside code into which exceptions are injected."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading

import pytest

from django_fsmworker.runner.in_flight.attempts import set_async_exc
from django_fsmworker.thread_starter import prepare_to_start_threads, start_elsewhere

ROUNDS = 100


@pytest.fixture(autouse=True)
def _switching_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_thread_is_started_and_its_number_is_known():
    prepare_to_start_threads()
    begun = threading.Event()
    thread = threading.Thread(target=begun.set)

    start_elsewhere(thread)

    thread.join(10)
    assert begun.is_set()


def test_one_that_cannot_be_started_is_its_caller_s_and_others_are_started():
    prepare_to_start_threads()
    once = threading.Thread(target=int)
    once.start()
    once._ident = None  # type: ignore[attr-defined]  # as of one that the system refuses

    with pytest.raises(RuntimeError, match="threads can only be started once"):
        start_elsewhere(once)

    start_elsewhere(threading.Thread(target=int))


def test_an_exception_that_comes_while_one_starts_goes_to_the_one_it_is_for(request):
    """With ``Thread.start()`` CPython 3.11 loses a third of them, and their threads hang."""
    prepare_to_start_threads()
    begun, heard, started = [], [], []
    # Python drops an exception that comes while it lets go of a thread: of none, then.
    request.addfinalizer(gc.enable)
    gc.collect()
    gc.disable()

    def start_many() -> None:
        try:
            begun.append(threading.current_thread())
            while True:
                started.append(threading.Thread(target=int, daemon=True))
                start_elsewhere(started[-1])
        except TimeoutError:
            heard.append(threading.current_thread())

    for _ in range(ROUNDS):
        parent = threading.Thread(target=start_many, daemon=True)
        parent.start()
        while parent not in begun or not threading._limbo:  # type: ignore[attr-defined]
            pass  # until one of its own, or the last that its predecessor wanted, is about to begin
        set_async_exc(parent.ident, ctypes.py_object(TimeoutError))
        parent.join(10)
        assert not parent.is_alive()

    assert len(heard) == ROUNDS
