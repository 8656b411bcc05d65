"""Rows that have outlived their state are deleted, one stubborn row beside them or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from testapp.models import Attachment, Expiring, Lock
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import entered, failure, reason

pytestmark = pytest.mark.django_db(transaction=True)


def old(**values: Any) -> Expiring:
    row = Expiring.objects.create(state="gone", **values)
    entered(row, 11)
    return row


def test_a_runner_deletes_them_while_it_runs(
    start_runner: Callable[..., Embedded], eventually: Callable[..., Any]
) -> None:
    runner = start_runner(Expiring, delete_interval=0.1)
    young = Expiring.objects.create(state="gone")
    row = old()
    Attachment.objects.create(row=row)

    eventually(lambda: runner.total("expired") == 1)

    assert list(Expiring.objects.all()) == [young]
    assert not Attachment.objects.exists()


def test_more_than_a_batch_goes_in_batches() -> None:
    for _ in range(7):
        old()

    runner = one_pass(Expiring, delete_batch=3)

    assert runner.counters.total("expired") == 7
    assert not Expiring.objects.exists()


def test_rows_that_refuse_to_go_are_recorded_and_the_rest_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    protected, stubborn = old(), old(stubborn=True)
    Lock.objects.create(row=protected)
    for _ in range(5):
        old()

    one_pass(Expiring)

    assert set(Expiring.objects.all()) == {protected, stubborn}
    assert reason(stubborn) == "RuntimeError: it does not want to go"
    assert reason(protected).startswith("django.db.models.deletion.ProtectedError: ")
    assert (
        f"testapp.Expiring {stubborn.pk} could not be deleted; its failure record says why."
        in caplog.messages
    )


def test_a_row_that_refuses_is_left_alone_for_longer_each_time(
    start_runner: Callable[..., Embedded], eventually: Callable[..., Any]
) -> None:
    stubborn = old(stubborn=True)
    start_runner(Expiring, delete_interval=0.1)
    eventually(lambda: failure(stubborn))

    others = []
    for _ in range(4):
        others.append(old())
        eventually(lambda: not Expiring.objects.filter(stubborn=False).exists())

    record = failure(stubborn)
    assert record is not None
    assert record.count < 5


def test_a_row_that_goes_takes_its_failure_record_along() -> None:
    row = old(stubborn=True)
    one_pass(Expiring)
    Expiring.objects.filter(pk=row.pk).update(stubborn=False)

    one_pass(Expiring)

    assert failure(row) is None


def test_a_row_that_is_revived_survives() -> None:
    row = old()
    row.state_transition("kept")

    one_pass(Expiring)

    assert Expiring.objects.get().state == "kept"
