"""Failures are counted, backed off, recorded, and end where the graph says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.exceptions import Retry, TryAgainLater
from testapp import carrier
from testapp.models import Order
from tests.app.models import Trouble
from tests.runner.embedded import one_pass
from tests.runner.rows import due_in, failure, fresh, path, reason

pytestmark = pytest.mark.django_db(transaction=True)

Travel = Callable[[float], None]


def failures_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged of attempts that failed."""
    return [each for each in caplog.records if getattr(each, "action", "") == "failed"]


class TestCounting:
    def test_each_failure_counts_and_the_last_one_goes_to_the_failure_state(
        self, travel: Travel
    ) -> None:
        row = Trouble.objects.create(mode="raise")

        seen = []
        for _ in range(4):
            one_pass(Trouble)
            seen.append((fresh(row).state, fresh(row).state_failures))
            travel(61)

        assert seen == [("new", 1), ("new", 2), ("failed", 0), ("failed", 0)]
        assert path(row) == ["new", "failed"]
        assert reason(row) == "RuntimeError: the moon is in the wrong house"
        record = failure(row)
        assert record is not None
        assert (record.count, record.state, record.went_to) == (3, "new", "failed")

    def test_only_the_failure_that_is_the_last_is_an_error(
        self, travel: Travel, caplog: pytest.LogCaptureFixture
    ) -> None:
        row = Trouble.objects.create(mode="raise")

        for _ in range(3):
            one_pass(Trouble)
            travel(61)

        *tried_again, last = failures_in(caplog)
        assert [each.levelname for each in tried_again] == ["WARNING", "WARNING"]
        assert [each.exc_info for each in tried_again] == [None, None]
        assert last.levelname == "ERROR"
        assert last.exc_info is not None
        assert type(last.exc_info[1]) is RuntimeError
        assert last.getMessage() == (
            f"tests.Trouble {row.pk} failed in the state new and is not tried again: "
            f"RuntimeError: the moon is in the wrong house"
        )

    def test_the_record_counts_attempts_and_keeps_the_traceback(self, travel: Travel) -> None:
        row = Trouble.objects.create(mode="raise")

        one_pass(Trouble)
        travel(61)
        one_pass(Trouble)

        record = failure(row)
        assert record is not None
        assert (record.count, record.state, record.resolved) == (2, "new", None)
        assert record.went_to == ""
        assert record.first_seen < record.last_seen
        assert 'raise RuntimeError("the moon is in the wrong house")' in record.traceback
        assert record.worker

    def test_a_check_that_goes_well_starts_the_count_again(self, travel: Travel) -> None:
        row = Trouble.objects.create(mode="raise")
        one_pass(Trouble)
        Trouble.objects.filter(pk=row.pk).update(mode="stay")
        travel(61)

        one_pass(Trouble)

        assert (fresh(row).state, fresh(row).state_failures) == ("new", 0)
        record = failure(row)
        assert record is not None and record.resolved is not None

    @pytest.mark.parametrize("spoil", ["assign", "clear"])
    def test_what_a_check_makes_of_its_instance_does_not_count(
        self, mode: Callable[..., Any], travel: Travel, spoil: str
    ) -> None:
        """Its record is resolved, and the rows that are written with it are written."""

        def check(row: Trouble) -> str:
            if spoil == "assign":
                row.state_failures = 0
            else:
                vars(row).clear()
            return "done"

        mode("spoil", check)
        row = Trouble.objects.create(mode="raise")
        one_pass(Trouble)
        Trouble.objects.filter(pk=row.pk).update(mode="spoil")
        others = [Trouble.objects.create() for _ in range(4)]
        travel(61)

        one_pass(Trouble)

        assert {fresh(each).state for each in [row, *others]} == {"done"}
        record = failure(row)
        assert record is not None and record.resolved is not None

    def test_a_row_that_fails_anew_has_a_new_count_in_its_record(self, travel: Travel) -> None:
        row = Trouble.objects.create(mode="raise")
        for mode in ("raise", "stay", "raise"):
            Trouble.objects.filter(pk=row.pk).update(mode=mode)
            one_pass(Trouble)
            travel(61)

        record = failure(row)
        assert record is not None
        assert (record.count, record.resolved) == (1, None)

    def test_without_max_attempts_a_failing_row_is_tried_for_ever(self, travel: Travel) -> None:
        row = Trouble.objects.create(state="patient", mode="raise")

        for failures in range(1, 9):
            one_pass(Trouble)
            assert (fresh(row).state, fresh(row).state_failures) == ("patient", failures)
            travel(61)


class TestParking:
    def test_without_a_failure_state_the_row_is_parked(
        self, travel: Travel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        state = Trouble.state_graph.states["patient"]
        monkeypatch.setattr(state, "max_attempts", 2)
        row = Trouble.objects.create(state="patient", mode="raise")

        one_pass(Trouble)
        travel(61)
        one_pass(Trouble)

        parked = fresh(row)
        assert (parked.state, parked.state_failures, parked.state_next) == ("patient", 2, None)
        assert reason(row) == "RuntimeError: the moon is in the wrong house"
        assert [each.levelname for each in failures_in(caplog)] == ["WARNING", "ERROR"]

    def test_a_parked_row_is_not_taken_for_a_stranded_one(
        self, travel: Travel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Trouble.state_graph.states["patient"], "max_attempts", 1)
        row = Trouble.objects.create(state="patient", mode="raise")
        one_pass(Trouble)

        one_pass(Trouble)

        assert fresh(row).state_next is None


class TestBackoff:
    def test_the_state_s_backoff_decides_when_it_is_tried_again(self) -> None:
        order = Order.objects.create(state="paid")
        failed_at = []

        def ship(order: Any, key: Any) -> None:
            failed_at.append(clock.now())
            raise ZeroDivisionError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(carrier, "ship", ship)
            for failures, planned in enumerate((2, 4, 8), 1):
                Order.objects.filter(pk=order.pk).update(state_next=order.state_changed)
                one_pass(Order)
                now = fresh(order)
                earliest = failed_at[-1] + timedelta(seconds=0.9 * planned)
                latest = clock.now() + timedelta(seconds=1.1 * planned)
                assert earliest <= now.state_next <= latest
                assert (now.state_failures, len(failed_at)) == (failures, failures)


class TestTryAgainLater:
    def test_a_delay_decides_when(self) -> None:
        row = Trouble.objects.create(mode="try_again", value=25)

        one_pass(Trouble)

        assert (fresh(row).state, fresh(row).state_failures) == ("new", 0)
        assert 20 < due_in(row) <= 25
        assert failure(row) is None

    def test_without_a_delay_retry_after_counts(self) -> None:
        row = Trouble.objects.create(mode="try_again")

        one_pass(Trouble)

        assert 50 < due_in(row) <= 60

    def test_an_impossible_delay_is_a_failure_that_says_so(self) -> None:
        row = Trouble.objects.create(mode="try_again", value=-1)

        one_pass(Trouble)

        assert reason(row) == (
            "django_fsmworker.exceptions.GraphError: delay=-1 is negative; give 0 seconds or more."
        )


class TestTryAgainLaterThatKeepsFailures:
    def test_the_count_and_the_record_stay(self, mode: Callable[..., Any], travel: Travel) -> None:
        def wait(row: Trouble) -> None:
            raise TryAgainLater(25, keep_failures=True)

        mode("wait", wait)
        row = Trouble.objects.create(mode="raise")
        one_pass(Trouble)
        Trouble.objects.update(mode="wait")
        travel(61)

        one_pass(Trouble)

        assert (fresh(row).state, fresh(row).state_failures) == ("new", 1)
        assert 20 < due_in(row) <= 25
        record = failure(row)
        assert record is not None
        assert record.resolved is None

    def test_without_it_they_are_past(self, mode: Callable[..., Any], travel: Travel) -> None:
        def wait(row: Trouble) -> None:
            raise TryAgainLater(25)

        mode("wait", wait)
        row = Trouble.objects.create(mode="raise")
        one_pass(Trouble)
        Trouble.objects.update(mode="wait")
        travel(61)

        one_pass(Trouble)

        assert fresh(row).state_failures == 0
        record = failure(row)
        assert record is not None
        assert record.resolved is not None


class TestRetry:
    @pytest.fixture
    def retrying(self, mode: Callable[..., Any]) -> Trouble:
        def retry(row: Trouble) -> None:
            raise Retry(after=row.value, message="the carrier is busy")

        mode("retry", retry)
        return Trouble.objects.create(mode="retry", value=25)

    def test_it_is_a_failure_that_says_when_to_come_back(self, retrying: Trouble) -> None:
        entered = retrying.state_changed

        one_pass(Trouble)

        assert (fresh(retrying).state, fresh(retrying).state_failures) == ("new", 1)
        assert 20 < due_in(retrying) <= 25
        assert reason(retrying) == "django_fsmworker.exceptions.Retry: the carrier is busy"
        assert fresh(retrying).state_changed == entered  # its timeout goes on

    def test_attempts_end_it(self, retrying: Trouble, travel: Travel) -> None:
        seen = []
        for _ in range(3):
            one_pass(Trouble)
            seen.append((fresh(retrying).state, fresh(retrying).state_failures))
            travel(26)

        assert seen == [("new", 1), ("new", 2), ("failed", 0)]

    def test_an_impossible_delay_is_what_is_on_record(self, retrying: Trouble) -> None:
        Trouble.objects.update(value=-1)

        one_pass(Trouble)

        assert reason(retrying) == (
            "django_fsmworker.exceptions.GraphError: after=-1 is negative; give 0 seconds or more."
        )


class TestRefusedText:
    def test_a_message_that_no_database_stores_is_stored_as_well_as_it_goes(
        self, mode: Callable[..., Any]
    ) -> None:
        def fail(row: Trouble) -> None:
            raise ValueError("nul \x00 and a lone \ud800 surrogate")

        mode("unstorable", fail)
        row = Trouble.objects.create(mode="unstorable")

        one_pass(Trouble)

        assert reason(row) == "ValueError: nul \ufffd and a lone ? surrogate"


def test_a_handler_of_the_log_that_raises_ends_no_runner(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Away(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ConnectionError(f"nobody takes {record.getMessage()!r}")

    failing, fine = Trouble.objects.create(mode="raise"), Trouble.objects.create()
    logger, handler = logging.getLogger("django_fsmworker"), Away()
    logger.addHandler(handler)
    try:
        one_pass(Trouble)
    finally:
        logger.removeHandler(handler)

    assert (fresh(failing).state_failures, fresh(fine).state) == (1, "done")
    said = capsys.readouterr().err
    assert f"nobody takes 'tests.Trouble {failing.pk} failed in the state" in said


def test_what_checks_come_to_may_have_a_logger_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    row = Trouble.objects.create(mode="raise")

    runner = one_pass(Trouble, check_logger="shop.checks")

    (said,) = [record for record in caplog.records if record.name == "shop.checks"]
    assert said.getMessage().startswith(f"tests.Trouble {row.pk} failed in the state new: ")
    assert said.worker == runner.worker_id  # type: ignore[attr-defined]
