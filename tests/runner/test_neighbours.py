"""One neighbour that hangs or floods, and the others: how long they wait. Measured, hence long."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from django_fsmworker.store import store_for
from tests.app.models import Parcel, parcels
from tests.runner.embedded import Embedded

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.long,
    pytest.mark.timeout(300),
]

Start = Callable[..., Embedded]


@pytest.mark.parametrize(("state", "most"), [("keyed", 1.0), ("fair", 3.0)])
def test_healthy_deliveries_beside_400_that_hang(
    state: str,
    most: float,
    start_runner: Start,
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    delivered: list[float] = []

    def deliver(row: Parcel) -> str:
        time.sleep(8 if row.carrier == 1 else 0.05)
        if row.carrier == 2:
            delivered.append(time.monotonic())
        return "sent"

    monkeypatch.setitem(parcels.SENDING, "test", deliver)
    Parcel.objects.bulk_create(Parcel(state=state, carrier=1, mode="test") for _ in range(400))
    start_runner(Parcel, concurrency=10, deadline=10)
    eventually(lambda: Parcel.objects.running().exists())
    time.sleep(1)

    began = time.monotonic()
    Parcel.objects.bulk_create(Parcel(state=state, carrier=2, mode="test") for _ in range(35))
    eventually(lambda: len(delivered) == 35, 60)

    median = statistics.median(delivered) - began
    with capsys.disabled():
        print(f"\n{state}: the median delivery took {median:.2f} s")
    assert median < most


def test_a_rate_for_each_key_is_met_by_four_runners(
    start_runner: Start,
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun: list[tuple[float, int]] = []
    claims: list[int] = []
    store: Any = type(store_for("default"))
    claim = store.claim

    def counted(self: Any, *arguments: Any) -> list[Any]:
        rows: list[Any] = claim(self, *arguments)
        claims.append(len(rows))
        return rows

    def begin(row: Parcel) -> str:
        begun.append((time.monotonic(), row.carrier or 0))
        return "sent"

    monkeypatch.setattr(store, "claim", counted)
    monkeypatch.setitem(parcels.SENDING, "test", begin)
    for carrier in (1, 2):
        rows = [Parcel(state="brisk", carrier=carrier, mode="test") for _ in range(4000)]
        Parcel.objects.bulk_create(rows)
    for _ in range(4):
        start_runner(Parcel)
    eventually(lambda: begun)
    time.sleep(3)

    since = time.monotonic()
    before, asked = len(begun), len(claims)
    time.sleep(60)
    until = time.monotonic()
    found = Counter(carrier for at, carrier in begun if since <= at < until)
    claims_a_row = (len(claims) - asked) / (len(begun) - before)

    with capsys.disabled():
        print(f"\n{dict(found)} in {until - since:.1f} s; {claims_a_row:.2f} claims a row")
    for carrier in (1, 2):
        assert found[carrier] / (until - since) == pytest.approx(50, rel=0.05)
    assert claims_a_row <= 1.2
