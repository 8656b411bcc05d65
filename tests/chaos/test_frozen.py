"""A runner that stands still past its lease, and goes on as if nothing had happened."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from django_fsmworker.models.records import StatorLog
from django_fsmworker.models.worker import Worker
from tests.app.models import Chain, CheckLog
from tests.runner.processes import Process
from tests.runner.rows import fresh, path

pytestmark = pytest.mark.django_db(transaction=True)


def test_its_write_changes_nothing_and_is_counted_once(
    start_process: Callable[..., Process],
    start_runner: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    row = Chain.objects.create(pause=2)
    frozen = start_process("runstator", "tests.Chain", "--lease=1", "--poll-interval=60")
    eventually(CheckLog.objects.exists)

    frozen.send(signal.SIGSTOP)
    # Whoever runs it next does not sleep in its check; the frozen one still has to.
    Chain.objects.filter(pk=row.pk).update(pause=0)
    other = start_runner(Chain, lease=30)
    eventually(lambda: fresh(row).state == "last")
    other.stop()
    finished = fresh(row)

    frozen.send(signal.SIGCONT)
    eventually(lambda: "moved on while it was in the state first here" in frozen.stderr)
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
    assert path(row) == ["first", "second", "third", "last"]
    assert (now.state_changed, now.state_history) == (
        finished.state_changed,
        finished.state_history,
    )
    by_state = list(CheckLog.objects.order_by("pk").values_list("state", flat=True))
    assert by_state == ["first", "first", "second", "third"]
