"""States whose check and transition are one transaction: both are committed once, or neither."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from django_fsmworker.models import FailureRecord
from django_fsmworker.signals import check_failed, state_changed
from django_fsmworker.testing import run_until_idle, step
from tests.app.models import CheckLog, Trouble, TroubleStates, trouble
from tests.runner.embedded import Embedded, one_pass
from tests.runner.heard import heard
from tests.runner.held_check import HeldCheck
from tests.runner.rows import fresh

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

pytestmark = pytest.mark.django_db(transaction=True)


def strict(mode: str, value: int = 0) -> Trouble:
    return Trouble.objects.create(state="strict", mode=mode, value=value)


def test_effects_and_transition_are_committed_together() -> None:
    row = strict("succeed")

    runner = one_pass(Trouble)

    assert fresh(row).state == "done"
    assert CheckLog.objects.count() == 1
    assert runner.counters.total("moved") == 1


def test_a_failure_takes_back_what_the_check_wrote() -> None:
    row = strict("raise")

    runner = one_pass(Trouble)

    assert (fresh(row).state, fresh(row).state_failures) == ("strict", 1)
    assert CheckLog.objects.count() == 0
    assert FailureRecord.objects.get().message == "the moon is in the wrong house"
    assert runner.counters.total("failed") == 1


def test_a_transition_that_the_database_refuses_takes_it_back_too() -> None:
    row = strict("succeed", value=13)

    one_pass(Trouble)

    assert (fresh(row).state, fresh(row).state_failures) == ("strict", 1)
    assert CheckLog.objects.count() == 0
    assert FailureRecord.objects.get().error == "django.db.utils.IntegrityError"


def test_a_check_that_overruns_takes_it_back() -> None:
    row = strict("loop")

    runner = one_pass(Trouble, task_deadline=0.3)

    assert (fresh(row).state, fresh(row).state_failures) == ("strict", 1)
    assert CheckLog.objects.count() == 0
    assert runner.counters.total("overran") == 1


@pytest.mark.sqlite
def test_one_that_waits_for_the_file_has_not_overrun(
    start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check before it does not end at its deadline, and keeps everybody else from writing."""
    enough = threading.Event()
    monkeypatch.setattr(trouble, "had_enough", enough)
    strict("swallow", value=60)
    row = strict("succeed")

    def is_late() -> bool:
        overran = [each for each in runner.runner.parts.in_flight.all() if each.overran]
        return any(time.monotonic() - (each.started or 0.0) > 1 for each in overran)

    runner = start_runner(Trouble, concurrency=2, task_deadline=0.4)
    eventually(is_late)
    enough.set()
    eventually(lambda: fresh(row).state == "done")

    assert fresh(row).state_failures == 0
    assert not FailureRecord.objects.filter(row=row.pk).exists()
    # It waits for the file, too, to be written: whoever comes first of the two.
    eventually(lambda: runner.total("overran") == 1)


@pytest.mark.postgresql  # On SQLite nobody else can write while the check's transaction lasts.
@pytest.mark.mysql
def test_a_superseded_attempt_leaves_nothing(
    start_runner: Start, eventually: Eventually, held_check: HeldCheck
) -> None:
    row = strict("held")
    runner = start_runner(Trouble)
    eventually(lambda: held_check.begun)

    row.state_transition("waiting")
    held_check.released.set()
    eventually(lambda: runner.total("superseded") == 1)

    assert fresh(row).state == "waiting"
    assert CheckLog.objects.count() == 0


def test_a_recovered_row_has_its_record_resolved() -> None:
    row = strict("raise")
    one_pass(Trouble)
    Trouble.objects.filter(pk=row.pk).update(mode="succeed", state_next=row.state_changed)

    one_pass(Trouble)

    assert fresh(row).state == "done"
    assert FailureRecord.objects.get().resolved is not None


class TestWhatFollowsTheCommit:
    """Nothing that a function of ``on_commit`` does changes what was committed."""

    @pytest.fixture(params=["raise", "exit", "leave a transaction open"])
    def afterwards(self, request: pytest.FixtureRequest) -> Callable[[], None]:
        def run() -> None:
            if request.param == "raise":
                raise RuntimeError("the postman is ill")
            if request.param == "exit":
                raise SystemExit(3)
            connection.set_autocommit(False)

        return run

    @pytest.fixture
    def then(self, mode: Callable[..., None], afterwards: Callable[[], None]) -> list[str]:
        """Rows with the mode ``then`` leave two functions to be called; what the second did."""
        called: list[str] = []

        def check(row: Trouble) -> str:
            transaction.on_commit(afterwards)
            transaction.on_commit(lambda: called.append(row.mode))
            return "done"

        mode("then", check)
        return called

    def test_in_a_runner(self, then: list[str]) -> None:
        row = strict("then")

        with heard(state_changed, Trouble) as changed:
            runner = one_pass(Trouble)

        assert (fresh(row).state, fresh(row).state_failures) == ("done", 0)
        assert CheckLog.objects.count() == 1
        totals = [runner.counters.total(name) for name in ("moved", "failed", "superseded")]
        assert totals == [1, 0, 0]
        assert [each["target"] for each in changed] == ["done"]
        assert not FailureRecord.objects.exists()
        assert then == ["then"]

    def test_it_is_logged(
        self, mode: Callable[..., None], caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> None:
            raise RuntimeError("the postman is ill")

        def check(row: Trouble) -> str:
            transaction.on_commit(fail)
            return "done"

        mode("then", check)
        strict("then")

        one_pass(Trouble)

        (record,) = [each for each in caplog.records if getattr(each, "action", "") == "on_commit"]
        assert record.getMessage() == (
            "A function that was left to on_commit() failed; the transaction is committed."
        )
        assert record.exc_info is not None
        assert str(record.exc_info[1]) == "the postman is ill"

    def test_in_the_row_s_own_verb(self, mode: Callable[..., None]) -> None:
        def fail() -> None:
            raise RuntimeError("the postman is ill")

        def check(row: Trouble) -> str:
            transaction.on_commit(fail)
            return "done"

        mode("then", check)
        row = strict("then")

        assert row.state_transition_check() == TroubleStates.done
        assert not FailureRecord.objects.exists()


class TestWithoutARunner:
    def test_a_failure_undoes_what_the_check_wrote_in_the_row_s_own_verb(self) -> None:
        row = strict("raise")

        assert row.state_transition_check() is None
        assert CheckLog.objects.count() == 0
        assert row.state_failures == 1

    def test_verb_of_a_row_that_somebody_moved(self) -> None:
        row = strict("succeed")
        Trouble.objects.filter(pk=row.pk).update(state="waiting")

        assert row.state_transition_check() is None
        assert CheckLog.objects.count() == 0

    def test_a_failure_undoes_what_the_check_wrote_in_the_test_kit(self) -> None:
        row = strict("raise")

        run_until_idle(Trouble, raise_failures=False)
        assert CheckLog.objects.count() == 0

        Trouble.objects.filter(pk=row.pk).update(mode="succeed")
        assert step(row) == "done"
        assert CheckLog.objects.count() == 1
        assert not connection.in_atomic_block

    def test_a_failure_that_is_rolled_back_is_told_to_nobody(self) -> None:
        row = strict("raise")

        with heard(check_failed, Trouble) as failed:
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                row.state_transition_check()
                raise ZeroDivisionError
            assert failed == []
            fresh(row).state_transition_check()

        assert [each["pk"] for each in failed] == [row.pk]
