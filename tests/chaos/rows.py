"""Rows that go on while something breaks, and what they prove afterwards."""

from __future__ import annotations

import time

from django.db import OperationalError, connection

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
    """Of the chain: three checks each, of which each notes that it began."""

    def __init__(self, number: int = 200, pause: float = 0.02) -> None:
        self.number = 0
        self._pause = pause
        self.add(number)

    def add(self, number: int) -> None:
        self.number += number
        Chain.objects.bulk_create(Chain(pause=self._pause) for _ in range(number))

    def are_under_way(self) -> bool:
        return Chain.objects.filter(state="third").exists()

    def seconds_until_claimed(self, seconds: float = 30) -> float:
        """How long rows that come now wait for their first check, ``seconds`` at the most.

        Whoever makes them waits for a place, too: tries that clients gave up during an outage may
        reach the server only now, and take all there are for a moment.
        """
        began = time.monotonic()
        eventually(_is_let_in, 30)
        last = Chain.objects.latest("pk").pk
        self.add(20)
        new = [str(pk) for pk in Chain.objects.filter(pk__gt=last).values_list("pk", flat=True)]
        eventually(lambda: CheckLog.objects.filter(row__in=new).exists(), seconds)
        return time.monotonic() - began

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
