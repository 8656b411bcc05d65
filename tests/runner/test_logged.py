"""A runner whose rows have a transition log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.models import FailureRecord, TransitionRecord
from django_fsmworker.runner import housekeeping
from tests.app.models import Chain, Delivery, Trouble
from tests.runner.deliveries import delivery, endpoint
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import fresh, states
from tests.runner.test_mismatches import renamed, said

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (Chain, Delivery, Trouble):
        monkeypatch.setattr(model, "log_transitions", True)


def entries(row: Any) -> list[tuple[str, str, str, str, int | None]]:
    return [
        (each.source, each.target, each.cause, each.worker, each.attempt) for each in row.state_log
    ]


def test_rows_that_run_on(start_runner: Start, eventually: Eventually) -> None:
    rows = Chain.objects.bulk_create(Chain(logged=False) for _ in range(20))

    worker = start_runner(Chain).runner.worker_id
    eventually(lambda: set(states(rows)) == {"last"})

    steps = [("first", "second"), ("second", "third"), ("third", "last")]
    for row in rows:
        assert entries(row) == [(*step, "check", worker, 1) for step in steps]


def test_a_sweep() -> None:
    row = delivery("held", endpoint=endpoint())

    worker = one_pass(Delivery).worker_id

    assert entries(row)[0] == ("held", "pending", "guard", worker, None)


def test_a_model_whose_log_has_no_table_rests(
    start_runner: Start, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    runner = start_runner(Trouble)
    eventually(lambda: runner.runner.status().rounds)

    with renamed(TransitionRecord._meta.db_table):
        row = Trouble.objects.create()
        eventually(lambda: runner.runner.status().models_resting == ("tests.Trouble",))
        assert (fresh(row).state, fresh(row).state_failures) == ("new", 0)
    eventually(lambda: fresh(row).state == "done")

    (sentence,) = said(caplog, "mismatch")
    assert sentence.startswith(
        "tests.Trouble rests: the table of django_fsmworker.TransitionRecord in the database "
    )
    assert not FailureRecord.objects.exists()
    assert len(entries(row)) == 1


class TestRetention:
    @pytest.fixture(autouse=True)
    def old(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Five entries, the first three of them from long ago."""
        monkeypatch.setattr(housekeeping, "TRANSITIONS_AT_ONCE", 2)
        monkeypatch.setattr(housekeeping, "PURGE_SECONDS", 0.0)
        monkeypatch.setattr(housekeeping, "PURGE_PAUSE", 0.05)
        for number in range(5):
            row = Trouble.objects.create(state="done")
            row.state_transition("failed")
            if number < 3:
                row.state_log.update(at=clock.now() - timedelta(days=91))

    def test_old_entries_go(self, start_runner: Start, eventually: Eventually) -> None:
        start_runner(Trouble)

        eventually(lambda: TransitionRecord.objects.count() == 2)

        assert not TransitionRecord.objects.filter(at__lt=clock.now() - timedelta(days=1)).exists()

    def test_0_keeps_them_for_ever(
        self,
        start_runner: Start,
        eventually: Eventually,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        purged: list[str] = []
        purge = housekeeping.Housekeeping._purge

        def note(self: housekeeping.Housekeeping, alias: str) -> None:
            purge(self, alias)
            purged.append(alias)

        monkeypatch.setattr(housekeeping.Housekeeping, "_purge", note)

        start_runner(Trouble, keep_transitions=0)
        eventually(lambda: purged)

        assert TransitionRecord.objects.count() == 5
