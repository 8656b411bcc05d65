"""A SQLite file that somebody has locked for long, and a disk that is full."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from django.db import connection, connections, transaction

from django_fsmworker.models.records import FailureRecord
from tests.app.models import Chain, Trouble
from tests.chaos.cluster import said_of_outages
from tests.chaos.redirect import redirected
from tests.chaos.rows import Rows
from tests.runner.embedded import Embedded
from tests.runner.processes import Process
from tests.runner.rows import fresh, reason
from tests.waiting import eventually

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

# The checks are overdue before an outage can be on record, a query being given three seconds.
# No lease lapses while none can be renewed.
SHORT = ("--lease=30", "--deadline=2", "--poll-interval=0.2")


@contextmanager
def locked(seconds: float) -> Iterator[None]:
    """Somebody's transaction, for whose end every writer waits."""
    name = connection.settings_dict["NAME"]
    with closing(sqlite3.connect(name, timeout=60, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        other.rollback()
    yield


@pytest.mark.parametrize(
    ("seconds", "options"),
    [(8.0, SHORT), pytest.param(21.0, (), marks=pytest.mark.long)],
)
def test_a_lock_is_nobody_s_fault(
    start_process: Callable[..., Process], seconds: float, options: tuple[str, ...]
) -> None:
    """It lasts longer than checks may take: they wait for it all the same, and so do deadlines."""
    runners = [start_process("runstator", "tests.Chain", *options) for _ in range(2)]
    eventually(lambda: all(runner.started for runner in runners), 60)
    rows = Rows(150, every=0.2)
    eventually(rows.are_under_way)

    with locked(seconds):
        waited = rows.seconds_until_claimed()
    eventually(rows.none_is_left, 60)

    rows.prove_once_each()
    assert waited < 15
    assert not FailureRecord.objects.exists()
    for runner in runners:
        assert said_of_outages(runner.stderr.splitlines()) in ([], ["away", "back"])
        assert "abandoned" not in runner.stderr
        assert "overran" not in runner.stderr
    assert any("is away (no answer for " in runner.stderr for runner in runners)


def test_a_full_disk_is_waited_for(
    start_runner: Callable[..., Embedded], caplog: pytest.LogCaptureFixture
) -> None:
    Chain.objects.bulk_create(Chain(logged=False) for _ in range(400))
    options = connections["default"].settings_dict["OPTIONS"]
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")  # what other tests have deleted would be room
        cursor.execute("PRAGMA page_count")
        (pages,) = cursor.fetchone()
    full = f"{options['init_command']} PRAGMA max_page_count={pages};"

    def said_until_back() -> list[str]:
        said = said_of_outages(caplog.messages)
        return said if said[-1] == "back" else []

    began = time.monotonic()
    with redirected(OPTIONS={**options, "init_command": full}):
        runner = start_runner(Chain, lease=1)
        eventually(lambda: said_of_outages(caplog.messages))
        time.sleep(0.5)
    eventually(lambda: not Chain.objects.exclude(state="last").exists(), 60)
    said = eventually(said_until_back)
    lasted = time.monotonic() - began

    assert "is away (database or disk is full)" in caplog.text
    # Now and then a small write finds room, and the next one does not; not more often than a part
    # tries again, which is ten times a second.
    assert said == ["away", "back"] * (len(said) // 2)
    assert len(said) / 2 <= 10 * lasted
    assert runner.alive
    assert not Chain.objects.failing().exists()
    paths = {tuple(state for state, _ in row.state_history) for row in Chain.objects.all()}
    assert paths == {("first", "second", "third", "last")}


def test_who_holds_the_file_locked_is_not_taken_for_one_who_waits(
    mode: Callable[..., None],
    start_runner: Callable[..., Embedded],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Everybody waits for such a check, until its deadline ends it: the outage is its own doing."""

    is_locked = threading.Event()

    def hold(row: Trouble) -> None:
        with transaction.atomic():
            Trouble.objects.filter(pk=row.pk).update(value=5)
            is_locked.set()
            while True:
                time.sleep(0.01)

    mode("hold", hold)
    mode("follow", lambda row: "done" if is_locked.wait(60) else None)
    row = Trouble.objects.create(mode="hold")
    Trouble.objects.create(mode="follow")  # whose end cannot be written then
    # An answer is waited for half of a deadline.
    start_runner(Trouble, concurrency=2, deadline=8, lease=24, poll_interval=0.2)

    eventually(lambda: fresh(row).state_failures == 1, 60)

    assert said_of_outages(caplog.messages)[:1] == ["away"]  # on record before the check's end
    assert "The check did not end within its deadline" in reason(row)
    assert fresh(row).value == 0
