"""What a runner leaves behind: summaries, and signals after the commit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models.records import StatorLog
from django_fsmworker.runner.counters import NAMES, Counters
from django_fsmworker.runner.database.outages import OutageTracker
from django_fsmworker.runner.housekeeping import Housekeeping
from django_fsmworker.signals import check_failed, row_expired, state_changed
from django_fsmworker.store import stores_for
from tests.app.models import BasicModel, Chain, Expiring, Trouble
from tests.runner.embedded import Embedded, one_pass
from tests.runner.heard import heard
from tests.runner.rows import entered, fresh

pytestmark = pytest.mark.django_db(transaction=True)


class TestStatorLog:
    def test_a_runner_that_stops_sums_up_per_model(self) -> None:
        Trouble.objects.create()
        Trouble.objects.create(mode="raise")
        Trouble.objects.create(mode="stay")
        Chain.objects.create()

        runner = one_pass(Trouble, Chain, BasicModel)

        logs = {log.model: log for log in StatorLog.objects.all()}
        assert set(logs) == {"tests.Trouble", "tests.Chain"}
        log = logs["tests.Trouble"]
        assert (log.moved, log.failed, log.stayed, log.overran) == (1, 1, 1, 0)
        assert (log.timed_out, log.interrupted, log.superseded, log.expired) == (0, 0, 0, 0)
        assert log.worker == runner.worker_id
        assert log.since < log.until
        assert logs["tests.Chain"].moved == 1

    def test_a_running_runner_sums_up_what_came_since_the_last_time(
        self,
        start_runner: Callable[..., Embedded],
        eventually: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("django_fsmworker.runner.housekeeping.SUMMARY_INTERVAL", 0.2)
        start_runner(Trouble, delete_interval=0.1)

        Trouble.objects.create()
        eventually(lambda: StatorLog.objects.count() == 1)
        Trouble.objects.create()
        eventually(lambda: StatorLog.objects.count() == 2)

        assert [log.moved for log in StatorLog.objects.order_by("since")] == [1, 1]
        first, second = StatorLog.objects.order_by("since")
        assert first.until <= second.since

    def test_it_says_what_waits(self) -> None:
        Trouble.objects.bulk_create(Trouble() for _ in range(2))
        Trouble.objects.update(state_next=clock.now() - timedelta(seconds=90))
        stores = stores_for([Trouble, Chain])
        outages, counters = OutageTracker(), Counters()
        housekeeping = Housekeeping(
            stores, RunnerSettings(), counters, outages, "one", may_be_due=lambda model: True
        )

        housekeeping.write_summaries("default")

        (log,) = StatorLog.objects.all()
        assert (log.model, log.due, log.handled) == ("tests.Trouble", 2, 0)
        assert log.oldest_due is not None and 90 <= log.oldest_due < 120

    def test_a_runner_that_did_nothing_says_nothing(self) -> None:
        one_pass(Trouble)

        assert not StatorLog.objects.exists()


def test_the_log_has_a_column_for_whatever_is_counted() -> None:
    assert StatorLog.counted() == list(NAMES)


class TestSignals:
    def test_state_changed_after_a_check(self) -> None:
        row = Trouble.objects.create()

        with heard(state_changed, Trouble) as told:
            one_pass(Trouble)

        (said,) = told
        assert (said["pk"], said["source"], said["target"]) == (row.pk, "new", "done")
        assert (said["cause"], said["using"]) == ("check", "default")
        assert said["row"].state == "done", "it is committed when the signal is sent"
        assert not said["in_transaction"]

    def test_state_changed_after_a_timeout(self) -> None:
        row = BasicModel.objects.create()
        entered(row, 11)

        with heard(state_changed, BasicModel) as told:
            one_pass(BasicModel)

        assert [(each["target"], each["cause"]) for each in told] == [("timed_out", "timeout")]

    def test_check_failed_and_state_changed_at_the_last_failure(
        self, travel: Callable[[float], None]
    ) -> None:
        row = Trouble.objects.create(mode="raise")

        with heard(check_failed, Trouble) as failed, heard(state_changed, Trouble) as changed:
            for _ in range(3):
                one_pass(Trouble)
                travel(61)

        assert [(each["pk"], each["source"]) for each in failed] == [(row.pk, "new")] * 3
        assert {each["error"] for each in failed} == {
            "RuntimeError: the moon is in the wrong house"
        }
        assert {str(each["exception"]) for each in failed} == {"the moon is in the wrong house"}
        assert all(each["exception"].__traceback__ for each in failed)
        assert [each["failures"] for each in failed] == [1, 2, 3]
        assert [(each["target"], each["cause"]) for each in changed] == [("failed", "failure")]

    def test_check_failed_tells_an_overrun_from_an_exception(self) -> None:
        with heard(check_failed, Trouble) as failed:
            raising = Trouble.objects.create(mode="raise")
            one_pass(Trouble)
            looping = Trouble.objects.create(mode="loop")
            one_pass(Trouble, task_deadline=0.3)

        assert {each["pk"]: each["ending"] for each in failed} == {
            raising.pk: "failed",
            looping.pk: "overran",
        }
        exceptions = {each["pk"]: each["exception"] for each in failed}
        assert type(exceptions[raising.pk]) is RuntimeError
        assert exceptions[looping.pk] is None

    def test_row_expired_tells_key_and_state(self) -> None:
        row = Expiring.objects.create(state="gone")
        entered(row, 11)

        with heard(row_expired, Expiring) as told:
            one_pass(Expiring)

        (said,) = told
        assert (said["pk"], said["source"], said["row"]) == (row.pk, "gone", None)

    def test_nothing_is_said_of_a_row_that_stays(self) -> None:
        Trouble.objects.create(mode="stay")

        with heard(state_changed, Trouble) as told:
            one_pass(Trouble)

        assert told == []

    def test_nothing_is_said_of_a_result_that_was_fenced_off(
        self,
        start_runner: Callable[..., Embedded],
        eventually: Callable[..., Any],
        held_check: Any,
    ) -> None:
        row = Trouble.objects.create(mode="held")
        runner = start_runner(Trouble)
        eventually(lambda: held_check.begun)
        row.state_transition("waiting")

        with heard(state_changed, Trouble) as told:
            held_check.released.set()
            eventually(lambda: runner.total("superseded") == 1)

        assert told == []

    def test_a_listener_that_raises_disturbs_nobody(self) -> None:
        def complain(**said: Any) -> None:
            raise RuntimeError("not my day")

        rows = [Trouble.objects.create() for _ in range(3)]
        state_changed.connect(complain, sender=Trouble)
        try:
            runner = one_pass(Trouble)
        finally:
            state_changed.disconnect(complain, sender=Trouble)

        assert {fresh(row).state for row in rows} == {"done"}
        assert runner.counters.total("moved") == 3
