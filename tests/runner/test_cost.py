"""What a runner costs: statements per batch, and statements and memory while it is idle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_fsmworker.runner.hints import PROBE_INTERVAL
from django_fsmworker.store import Ending, Lane, Outcome, store_for
from tests.app.models import Noop
from tests.runner.embedded import Embedded, one_pass
from tests.runner.processes import Process
from tests.runner.statement_log import statements

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = 60


def moved(rows: Sequence[Any]) -> list[Outcome]:
    return [
        Outcome(row.pk, row, Ending.MOVED, "new", row.state_claim, "done", None, None)
        for row in rows
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
    # Measured: 5 to 11 statements for 1,000 rows on PostgreSQL, more the busier the machine, 2 or 3
    # on SQLite, and 35 to 75 on MariaDB, where a claim is five and a settling four.
    most = {"mysql": 200, "postgresql": 60, "sqlite": 30}[vendor]
    assert len(sent) < 3 * most, f"{len(sent)} statements for 3,000 rows"


def test_an_idle_runner_sends_at_most_a_statement_every_two_seconds(
    start_runner: Callable[..., Embedded], eventually: Callable[..., Any]
) -> None:
    with statements() as sent:
        runner = start_runner(concurrency=10, poll_interval=5.0)
        eventually(lambda: runner.runner.hints.active or connection.vendor == "mysql")
        _wait_until_quiet(sent, eventually)
        # From one of its statements to another that comes ten seconds later, or more.
        first = len(sent)
        eventually(lambda: len(sent) > first and sent.sent_at[-1] >= sent.sent_at[first] + 10, 60)
        last = len(sent) - 1
        seconds = sent.sent_at[last] - sent.sent_at[first]
        asked = sent.sent[first:last]
    with CaptureQueriesContext(connection) as deletes:
        runner.runner.parts.housekeeping.expirer.delete_expired("default")

    rounds = MINUTE / runner.runner.settings.delete_interval
    probes = (
        MINUTE / PROBE_INTERVAL
    )  # past Django's cursor, like SQLite's look at the file's version
    # What comes every five seconds or so comes twice in ten, and by chance once more.
    a_minute = (len(asked) - 1) * MINUTE / seconds + rounds * len(deletes) + probes
    told = [sql[:60] for sql in asked]
    assert a_minute <= MINUTE / 2, f"{told} in {seconds:.1f} s, {len(deletes)} a round of deletes"


def _wait_until_quiet(sent: Any, eventually: Callable[..., Any]) -> None:
    """Until nothing is sent for about a second: a busy machine takes its time to start.

    Looks are counted, not seconds: one at which the process was stopped is no sign of quiet.
    """
    seen, looks = len(sent), 0

    def quiet() -> bool:
        nonlocal seen, looks
        looks = looks + 1 if len(sent) == seen and not sent.unanswered else 0
        seen = len(sent)
        return looks > 40

    eventually(quiet, 60, every=0.03)


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
