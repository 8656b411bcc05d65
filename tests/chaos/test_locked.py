"""A transaction that holds one leased row delays nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.app.models import Chain
from tests.runner.rows import fresh, path

# Renewed after a third and before half of it; the other half is left to end the lock in.
LEASE = 15.0


@pytest.mark.postgresql
@pytest.mark.mysql
@pytest.mark.django_db(transaction=True)
def test_no_other_row_s_settling_or_renewal_waits_for_it(
    start_runner: Callable[..., Any],
    eventually: Callable[..., Any],
    locked: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held, long = Chain.objects.create(), Chain.objects.create()
    may_end = {held.pk: threading.Event(), long.pk: threading.Event()}
    step = Chain.step

    def step_when_it_may(row: Chain, target: Any) -> Any:
        if row.pk in may_end:
            may_end[row.pk].wait(100)
        return step(row, target)

    monkeypatch.setattr(Chain, "step", step_when_it_may)
    runner = start_runner(Chain, concurrency=4, lease=LEASE, deadline=100)
    eventually(lambda: Chain.objects.running().count() == 2)
    leased_until = fresh(long).state_lease

    def settled_and_renewed() -> bool:
        """Settling: a row that comes now goes all the way. Renewal: the long check's lease."""
        row = Chain.objects.create()
        eventually(lambda: fresh(row).state == "last")
        now = fresh(long)
        assert now.state == "first"
        return bool(now.state_lease > leased_until)

    with locked(held):
        may_end[held.pk].set()
        eventually(settled_and_renewed)
        assert fresh(held).state == "first"
        assert fresh(held).state_claim is not None

    may_end[long.pk].set()
    eventually(lambda: fresh(held).state == "last")
    eventually(lambda: fresh(long).state == "last")
    assert path(held) == ["first", "second", "third", "last"]
    assert runner.total("superseded") == 0
