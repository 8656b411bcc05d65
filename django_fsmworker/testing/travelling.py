"""Travelling in time: what would be due later is due now, and nobody has to wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from django_fsmworker import clock


@contextmanager
def travel(
    by: timedelta | None = None, *, seconds: float | None = None
) -> Iterator[Callable[..., None]]:
    """Move the databases' clock, as rows are due, leased and expired by it, until the block ends.

    ``by`` is a ``timedelta``, or give ``seconds``; negative ones go back. What the block gets is a
    function that travels further: ``with travel(seconds=60) as further: … further(seconds=30)``.
    It works as a decorator of a test, too. Only this process travels, and only what asks
    ``django_fsmworker``: ``timezone.now()`` stays.
    """
    before = clock.travelled()
    _move(by, seconds=seconds)
    try:
        yield _move
    finally:
        clock.travel(before - clock.travelled())


def _move(by: timedelta | None = None, *, seconds: float | None = None) -> None:
    if (by is None) == (seconds is None):
        raise TypeError("travel() takes either a timedelta or seconds: travel(seconds=60).")
    clock.travel(timedelta(seconds=seconds) if seconds is not None else by or timedelta())
