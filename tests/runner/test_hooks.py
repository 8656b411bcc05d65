"""Functions of the project's own that a runner calls."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.runner import StatorRunner
from tests.app.models import Trouble
from tests.runner import hooked
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import fresh

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]


@pytest.fixture(autouse=True)
def nothing_called() -> Iterator[None]:
    yield
    hooked.CALLED.clear()
    hooked.SEEN.clear()


def paths(*names: str) -> list[str]:
    return [f"tests.runner.hooked.{name}" for name in names]


def failed(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if getattr(each, "action", "") == "hook_failed"]


def test_they_are_called_before_the_first_row_and_after_the_last(
    mode: Callable[..., None],
) -> None:
    def check(row: Any) -> str:
        hooked.CALLED.append("check")
        return "done"

    mode("told", check)
    Trouble.objects.create(mode="told")

    runner = one_pass(Trouble, start_hooks=paths("begin"), end_hooks=paths("end"))

    assert hooked.CALLED == ["begin", "check", "end, with 1 done"]
    assert [runner] == hooked.SEEN


def test_periodic_ones_are_called_again_and_again(
    start_runner: Start, eventually: Eventually
) -> None:
    start_runner(Trouble, periodic_hooks=paths("look"), hook_interval=0.02)

    eventually(lambda: len(hooked.CALLED) >= 3)


def test_periodic_ones_wait_for_their_time(start_runner: Start, eventually: Eventually) -> None:
    runner = start_runner(Trouble, start_hooks=paths("begin"), periodic_hooks=paths("look"))
    eventually(lambda: runner.runner.status().rounds)
    runner.stop()

    assert hooked.CALLED == ["begin"]


def test_one_that_raises_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    row = Trouble.objects.create()

    one_pass(Trouble, start_hooks=paths("fail", "leave", "begin"))

    assert [each.getMessage() for each in failed(caplog)] == [
        "The hook tests.runner.hooked.fail failed.",
        "The hook tests.runner.hooked.leave failed.",
    ]
    assert all(each.exc_info for each in failed(caplog))
    assert hooked.CALLED == ["begin"]
    assert fresh(row).state == "done"


def test_nothing_is_claimed_before_the_hooks_for_the_start_return(
    start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[str] = []
    row = Trouble.objects.create()
    monkeypatch.setattr(hooked, "begin", lambda runner: states.append(fresh(row).state))

    start_runner(Trouble, start_hooks=paths("begin"))
    eventually(lambda: fresh(row).state == "done")

    assert states == ["new"]


def test_those_for_the_end_are_not_waited_for_longer_than_the_drain(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(hooked, "end", lambda runner: released.wait(30))

    one_pass(Trouble, end_hooks=paths("end"), drain_timeout=0.1)
    released.set()

    assert "hooks_late" in [getattr(each, "action", "") for each in caplog.records]


def test_a_runner_that_is_stopped_meanwhile_does_not_wait_for_the_start(
    start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()

    def begin(runner: Any) -> None:
        begun.set()
        released.wait(30)

    monkeypatch.setattr(hooked, "begin", begin)
    row = Trouble.objects.create()
    runner = start_runner(Trouble, start_hooks=paths("begin"), drain_timeout=0.1)
    eventually(begun.is_set)

    runner.stop()
    released.set()

    assert fresh(row).state == "new"


def test_without_any_there_is_no_thread() -> None:
    assert StatorRunner([Trouble])._hooks is None


def test_what_cannot_be_imported_is_said_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"end_hooks names .* which cannot be imported"):
        StatorRunner([Trouble], end_hooks=paths("missing"))
