"""A runner that stands still past its lease, and goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, transaction

from django_fsmworker.models.records import StatorLog
from django_fsmworker.models.worker import Worker
from tests.app.models import CheckLog, Trouble
from tests.runner.processes import Process
from tests.runner.rows import fresh, path

pytestmark = pytest.mark.django_db(transaction=True)


def freeze_without_a_lock(process: Process, row: Trouble) -> bool:
    """Stop the process, unless that is in the midst of a write: others would wait for its end."""
    process.send(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    try:
        with transaction.atomic():
            Trouble.objects.select_for_update(nowait=True).get(pk=row.pk)
    except OperationalError:
        process.send(signal.SIGCONT)
        return False
    return True


def test_its_write_changes_nothing_and_is_counted_once(
    start_process: Callable[..., Process],
    start_runner: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    row = Trouble.objects.create(mode="wait_for_value")
    frozen = start_process(
        "runstator", "tests.Trouble", "--lease=1", "--poll-interval=60", "--deadline=100"
    )
    eventually(CheckLog.objects.exists, 60)

    eventually(partial(freeze_without_a_lock, frozen, row))
    # Whoever runs it next need not wait in its check; the frozen one learns of that later.
    Trouble.objects.filter(pk=row.pk).update(value=1)
    other = start_runner(Trouble, lease=30)
    eventually(lambda: fresh(row).state == "done")
    other.stop()
    finished = fresh(row)

    frozen.send(signal.SIGCONT)
    eventually(lambda: "moved on while it was in the state new here" in frozen.stderr)
    frozen.send(signal.SIGTERM)

    assert frozen.wait() == 0
    assert frozen.stdout == (
        "stopped: moved=0 stayed=0 failed=0 overran=0 timed_out=0 "
        "interrupted=0 superseded=1 expired=0\n"
    )
    (log,) = StatorLog.objects.exclude(superseded=0)
    assert (log.superseded, log.worker) == (1, Worker.objects.get(pid=frozen.pid).id)
    assert other.total("superseded") == 0
    now = fresh(row)
    assert path(row) == ["new", "done"]
    assert (now.state_changed, now.state_history) == (
        finished.state_changed,
        finished.state_history,
    )
    by_state = list(CheckLog.objects.order_by("pk").values_list("state", flat=True))
    assert by_state == ["new", "new"]
