"""Every twentieth statement fails, and half of those that fail were carried out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from testapp.models import Chain
from tests.chaos.faults import faults
from tests.chaos.fleet import PATH
from tests.waiting import eventually

EVERY, SEED = 20, 7


@pytest.mark.django_db(transaction=True)
def test_every_row_arrives_and_takes_each_step_once(
    start_runner: Callable[..., Any], capsys: pytest.CaptureFixture[str], vendor: str
) -> None:
    rows = 4_000 if vendor == "mysql" else 10_000  # there it is several statements a batch
    Chain.objects.bulk_create(Chain(logged=not number % 50) for number in range(rows))
    began = time.monotonic()

    with faults(EVERY, SEED) as some:
        runner = start_runner(Chain, lease=2, max_in_flight=1000)
        eventually(lambda: not Chain.objects.exclude(state="last").exists(), 100, every=0.2)
        runner.stop()

    with capsys.disabled():
        print(
            f"\nfaults on {vendor}: {rows} rows in {time.monotonic() - began:.0f} s, "
            f"statements {dict(some.statements)}; {runner.runner.counters}"
        )
    histories = Chain.objects.values_list("state_history", flat=True)
    assert {tuple(state for state, _ in history) for history in histories} == {tuple(PATH)}
    assert not Chain.objects.failing().exists()
    assert min(some.statements["before"], some.statements["after"]) > 10
