"""What a runner costs: statements per batch, and statements and memory while it is idle."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_fsmworker.runner.hints import PROBE_INTERVAL
from django_fsmworker.store import Kind, Lane, Outcome, store_for
from testapp.models import Noop
from tests.runner.counting import statements
from tests.runner.embedded import Embedded, one_pass
from tests.runner.processes import Process

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = 60


def moved(rows: Sequence[Any]) -> list[Outcome]:
    return [
        Outcome(row.pk, row, Kind.MOVED, "new", row.state_claim, "done", None, None) for row in rows
    ]


# MariaDB and MySQL: lock, (look for more,) write, and the transaction around; 500 rows at a time.
CLAIM = {"mysql": {1: 5, 10: 5, 700: 6}}
SETTLE = {"mysql": {1: 4, 10: 4, 700: 6}}


@pytest.mark.parametrize("number", [1, 10, 700])
def test_claim_and_settle_are_one_statement_each_whatever_the_batch(
    number: int, vendor: str
) -> None:
    Noop.objects.bulk_create(Noop() for _ in range(number))
    store = store_for("default")

    with CaptureQueriesContext(connection) as claiming:
        rows = store.claim(Noop, [Lane("new", 1000)], lease=30)
    with CaptureQueriesContext(connection) as settling:
        settled = store.settle(Noop, moved(rows))

    assert (len(rows), len(settled)) == (number, number)
    one = {number: 1}
    wanted = CLAIM.get(vendor, one)[number], SETTLE.get(vendor, one)[number]
    assert (len(claiming), len(settling)) == wanted


def test_a_runner_s_statements_are_per_batch_not_per_row(vendor: str) -> None:
    Noop.objects.bulk_create(Noop() for _ in range(3000))

    with statements() as sent:
        one_pass(Noop)

    assert not Noop.objects.exclude(state="done").exists()
    # Measured: 5 to 8 statements for 1,000 rows on PostgreSQL, 14 to 17 on SQLite, and 40 to 75 on
    # MariaDB, where a claim is five and a settling four.
    most = 150 if vendor == "mysql" else 50
    assert len(sent) < 3 * most, f"{len(sent)} statements for 3,000 rows"


def test_an_idle_runner_sends_at_most_a_statement_every_two_seconds(
    start_runner: Callable[..., Embedded], eventually: Callable[..., Any]
) -> None:
    with statements() as sent:
        runner = start_runner(concurrency=10, poll_interval=5.0)
        eventually(lambda: runner.runner.hints.active or connection.vendor == "mysql")
        quiet_since = _when_quiet(sent, eventually)
        before = len(sent)
        eventually(lambda: time.monotonic() > quiet_since + 10, 15)
        asked = sent.sent[before:]
    with CaptureQueriesContext(connection) as deletes:
        runner.runner._housekeeping.delete_expired("default")

    rounds = MINUTE / runner.runner.settings.delete_interval
    probes = (
        MINUTE / PROBE_INTERVAL
    )  # past Django's cursor, like SQLite's look at the file's version
    a_minute = len(asked) * MINUTE / 10 + rounds * len(deletes) + probes
    assert a_minute <= MINUTE / 2, f"{asked} in ten seconds, {len(deletes)} a round of deletes"


def _when_quiet(sent: Any, eventually: Callable[..., Any]) -> float:
    """Wait until nothing was sent for two seconds: a busy machine takes its time to start."""
    seen, since = len(sent), time.monotonic()

    def quiet() -> bool:
        nonlocal seen, since
        if len(sent) != seen:
            seen, since = len(sent), time.monotonic()
        return time.monotonic() - since > 2

    eventually(quiet)
    return time.monotonic()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_an_idle_process_stays_below_80_megabytes(
    start_process: Callable[..., Process], eventually: Callable[..., Any]
) -> None:
    Noop.objects.bulk_create(Noop() for _ in range(100))
    process = start_process("runstator")
    eventually(lambda: process.started)
    eventually(lambda: not Noop.objects.exclude(state="done").exists())

    status = Path(f"/proc/{process.pid}/status").read_text()
    (resident,) = [line for line in status.splitlines() if line.startswith("VmRSS")]

    assert int(resident.split()[1]) < 80 * 1024, resident
