"""What the log tells of attempts that go wrong: with which fields, and how often."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from django_fsmworker.signals import check_failed
from tests.app.models import Delivery, Trouble, trouble
from tests.app.models import deliveries as delivery_modes
from tests.runner.deliveries import delivery, endpoint
from tests.runner.embedded import Embedded, one_pass
from tests.runner.heard import heard
from tests.runner.held_check import HeldCheck
from tests.runner.rows import states

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]
FIELDS = ("model", "pk", "state", "attempt", "worker")


def troubles(number: int, mode: str = "raise", **fields: Any) -> list[Trouble]:
    return Trouble.objects.bulk_create(Trouble(mode=mode, **fields) for _ in range(number))


def said(caplog: pytest.LogCaptureFixture, action: str) -> list[logging.LogRecord]:
    return [each for each in caplog.records if getattr(each, "action", "") == action]


def fields(record: logging.LogRecord) -> tuple[Any, ...]:
    return tuple(vars(record)[name] for name in FIELDS)


class TestFields:
    def test_of_a_failure(self, caplog: pytest.LogCaptureFixture) -> None:
        (row,) = troubles(1, state_failures=1)

        worker = one_pass(Trouble).worker

        (record,) = said(caplog, "failed")
        assert fields(record) == ("tests.Trouble", row.pk, "new", 2, worker)
        assert not hasattr(record, "tenant")
        assert not hasattr(record, "trace_id")

    def test_the_tenant_that_the_model_names(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(delivery_modes.DELIVERIES, "fail", lambda row: 1 / 0)
        row = delivery(endpoint=endpoint(), mode="fail")

        one_pass(Delivery)

        (record,) = said(caplog, "failed")
        assert (record.pk, record.tenant) == (row.pk, row.endpoint_id)  # type: ignore[attr-defined]

    def test_of_a_check_past_its_deadline(
        self,
        start_runner: Start,
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        enough = threading.Event()
        monkeypatch.setattr(trouble, "had_enough", enough)
        (row,) = troubles(1, "swallow", value=60)

        worker = start_runner(Trouble, deadline=0.2, abandon_after=0.1).runner.worker
        eventually(lambda: said(caplog, "abandoned"))
        enough.set()
        eventually(lambda: said(caplog, "overran"))

        for action in ("overdue", "abandoned", "overran"):
            assert fields(said(caplog, action)[0]) == ("tests.Trouble", row.pk, "new", 1, worker)

    def test_of_a_row_that_moved_on(
        self,
        start_runner: Start,
        held_check: HeldCheck,
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO, "django_fsmworker")
        (row,) = troubles(1, "held")
        runner = start_runner(Trouble)
        eventually(lambda: held_check.begun)

        row.state_transition("waiting")
        runner.look_for_revoked(Trouble)
        eventually(lambda: said(caplog, "superseded"))

        expected = "tests.Trouble", row.pk, "new", 1, runner.runner.worker
        assert fields(said(caplog, "superseded")[0]) == expected


class TestFloods:
    def test_many_failures_of_one_cause_are_two_lines(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        troubles(20)

        with heard(check_failed, Trouble) as told:
            worker = one_pass(Trouble).worker

        assert len(told) == 20
        (first,) = said(caplog, "failed")
        assert first.levelname == "WARNING"
        (summary,) = said(caplog, "summed_up")
        latest = summary.args[4]  # type: ignore[index]
        assert summary.getMessage() == (
            f"tests.Trouble: 19 more attempts in the state new failed (RuntimeError); "
            f"the latest: {latest}: the moon is in the wrong house"
        )
        assert summary.levelname == "WARNING"
        assert vars(summary)["number"] == 19
        assert vars(summary)["worker"] == worker

    def test_different_causes_are_told_of_each(self, caplog: pytest.LogCaptureFixture) -> None:
        troubles(2)
        troubles(2, "system_exit")

        one_pass(Trouble)

        assert len(said(caplog, "failed")) == 2
        assert [vars(each)["number"] for each in said(caplog, "summed_up")] == [1, 1]

    def test_failures_for_good_are_errors_with_their_tracebacks_until_they_flood(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = troubles(15, state_failures=2)

        one_pass(Trouble)

        assert set(states(rows)) == {"failed"}
        errors = said(caplog, "failed")
        assert [each.levelname for each in errors] == ["ERROR"] * 10
        assert all(each.exc_info for each in errors)
        (summary,) = said(caplog, "summed_up")
        assert (summary.levelname, vars(summary)["number"]) == ("ERROR", 5)

    def test_a_runner_sums_up_while_it_runs(
        self, start_runner: Start, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        runner = start_runner(Trouble)
        runner.runner.parts.log._flood._window = 0.2

        troubles(5)

        eventually(lambda: said(caplog, "summed_up"))
        assert runner.alive
