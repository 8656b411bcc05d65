"""The limits after which a process ends: attempts, failures, memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from django_fsmworker.runner.process_limits import MEBIBYTE, resident_memory
from tests.app.models import Noop, Trouble
from tests.runner.embedded import Embedded

pytestmark = pytest.mark.django_db(transaction=True)

Eventually = Callable[..., Any]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_fsmworker.runner.process_limits.LOOK_INTERVAL", 0.0)


@pytest.mark.parametrize(
    ("options", "reached"),
    [
        ({"max_tasks": 2}, "max_tasks (2 of 2 attempts)"),
        ({"max_failures": 1}, "max_failures (1 of 1 failed attempts)"),
    ],
)
def test_a_runner_that_reaches_one_drains_and_ends(
    options: dict[str, int],
    reached: str,
    start_runner: Callable[..., Embedded],
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "django_fsmworker")
    row = Trouble.objects.create()
    embedded = start_runner(Trouble, **options)
    eventually(lambda: Trouble.objects.get(pk=row.pk).state == "done")
    assert embedded.alive

    Trouble.objects.create(mode="raise")

    eventually(lambda: not embedded.alive)
    assert embedded.runner.limit_reached
    assert f"This process has reached {reached}; it is to end, and another" in caplog.text


def test_memory_is_a_limit_too(start_runner: Callable[..., Embedded], eventually: Any) -> None:
    embedded = start_runner(Noop, max_memory=1)

    eventually(lambda: not embedded.alive)
    assert embedded.runner.limit_reached


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_what_the_process_takes() -> None:
    before = resident_memory()

    taken = bytearray(64 * MEBIBYTE)
    taken[::4096] = b"x" * len(taken[::4096])

    assert resident_memory() - before > 32 * MEBIBYTE


def test_the_command_ends_with_5() -> None:
    Noop.objects.create()

    with pytest.raises(SystemExit) as ended:
        call_command("runstator", "tests.Noop", max_tasks=1, poll_interval=0.1, stdout=StringIO())

    assert ended.value.code == 5
