"""Rows that go on while something breaks, and what they prove afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import OperationalError, connection

from django_fsmworker import clock
from tests.app.models import Chain, CheckLog
from tests.chaos.fleet import PATH, Ledger
from tests.waiting import eventually


def _is_let_in() -> bool:
    try:
        connection.ensure_connection()
    except OperationalError:
        return False
    return True


class Rows:
    """Of the chain: three checks each, of which each notes that it began.

    With ``every`` half of them come due one by one, so many seconds apart: a slow test finds some
    under way, too. They come due together when it asks for ``seconds_until_claimed()``.
    """

    def __init__(self, number: int = 200, pause: float = 0.02, every: float = 0) -> None:
        self.number = 0
        self._pause = pause
        apart = number // 2 if every else 0
        self.add(number - apart)
        now = clock.now()
        self.add(apart, lambda at: now + timedelta(seconds=at * every))

    def add(self, number: int, due: Callable[[int], datetime] = lambda at: clock.now()) -> None:
        self.number += number
        Chain.objects.bulk_create(
            Chain(pause=self._pause, state_next=due(at)) for at in range(number)
        )

    def are_under_way(self) -> bool:
        return Chain.objects.filter(state="third").exists()

    def seconds_until_claimed(self, seconds: float = 30) -> float:
        """How long rows that come now wait for their first check, ``seconds`` at the most.

        Whoever makes them waits for a place, too: tries that clients gave up during an outage may
        reach the server only now, and take all there are for a moment.
        """
        began = time.monotonic()
        eventually(_is_let_in, 30)
        self._hurry()
        last = Chain.objects.latest("pk").pk
        self.add(20)
        new = [str(pk) for pk in Chain.objects.filter(pk__gt=last).values_list("pk", flat=True)]
        eventually(lambda: CheckLog.objects.filter(row__in=new).exists(), seconds)
        return time.monotonic() - began

    def _hurry(self) -> None:
        """Make the rows due that are not yet: by their keys, since MariaDB's locks on an index of
        theirs would be in the way of a runner, and that in ours."""
        free = Chain.objects.filter(state="first", state_claim=None)
        for key in free.filter(state_next__gt=clock.now()).values_list("pk", flat=True):
            free.filter(pk=key).update(state_next=clock.now())

    def have_arrived(self) -> bool:
        return Chain.objects.filter(state="last").count() == self.number

    def none_is_left(self) -> bool:
        """``have_arrived``, or an ``AssertionError`` that says what some others are about."""
        columns = ("pk", "state", "state_next", "state_lease", "state_failures")
        assert self.have_arrived(), list(Chain.objects.exclude(state="last").values(*columns)[:5])
        return True

    def prove_once_each(self) -> Ledger:
        """Each went each step, once: every fenced write appends to the history as it moves."""
        histories = Chain.objects.values_list("state_history", flat=True)
        assert {tuple(state for state, _ in history) for history in histories} == {tuple(PATH)}
        ledger = Ledger.read()
        assert len(ledger.runs) == self.number
        assert ledger.unchecked() == []
        assert not Chain.objects.failing().exists()
        return ledger
