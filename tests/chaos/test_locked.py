"""A transaction that holds one leased row delays nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.app.models import Chain
from tests.runner.rows import fresh, path

HELD = 10.0
LEASE = 12.0


@pytest.mark.postgresql
@pytest.mark.mysql
@pytest.mark.django_db(transaction=True)
def test_no_other_row_s_settling_or_renewal_waits_for_it(
    start_runner: Callable[..., Any], eventually: Callable[..., Any], locked: Callable[..., Any]
) -> None:
    held, long = Chain.objects.create(pause=0.5), Chain.objects.create(pause=HELD - 1)
    runner = start_runner(Chain, concurrency=4, lease=LEASE, deadline=60)
    eventually(lambda: Chain.objects.running().count() == 2)
    leased_until = fresh(long).state_lease
    Chain.objects.filter(pk=long.pk).update(pause=0)  # its next checks need not last

    with locked(held):
        end = time.monotonic() + HELD
        slowest, renewed = 0.0, False
        while time.monotonic() < end:
            # Settling: rows that arrive meanwhile go all the way, time and again.
            began = time.monotonic()
            row = Chain.objects.create()
            eventually(lambda row=row: fresh(row).state == "last")
            slowest = max(slowest, time.monotonic() - began)
            # Renewal: the long check has its lease moved.
            now = fresh(long)
            renewed = renewed or (now.state == "first" and now.state_lease > leased_until)
        assert fresh(held).state == "first"
        assert fresh(held).state_claim is not None

    eventually(lambda: fresh(held).state == "last")
    eventually(lambda: fresh(long).state != "first")
    assert renewed
    assert slowest < 4, f"a row took {slowest:.1f} s"
    assert path(held) == ["first", "second", "third", "last"]
    assert runner.total("superseded") == 0
