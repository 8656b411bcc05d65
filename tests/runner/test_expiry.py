"""Rows that have outlived their state are deleted, one stubborn row beside them or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, models, transaction
from django.db.models.signals import post_delete

from django_fsmworker.signals import row_expired
from tests.app.models import Attachment, Expiring, Lock
from tests.runner.embedded import Embedded, one_pass
from tests.runner.heard import heard
from tests.runner.rows import entered, failure, fresh, reason

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
        f"tests.Expiring {stubborn.pk} could not be deleted; its failure record says why."
        in caplog.messages
    )


def test_a_row_that_refuses_is_left_alone_for_longer_each_time(
    start_runner: Callable[..., Embedded], eventually: Callable[..., Any]
) -> None:
    def tries() -> int:
        record = failure(stubborn)
        return record.count if record else 0

    stubborn = old(stubborn=True)
    runner = start_runner(Expiring, delete_interval=0.1)
    refused = runner.runner.parts.housekeeping.expirer._refused
    eventually(lambda: [wait for _, wait in refused.values()] > [1.5])  # 0.1, 0.2, …

    before = tries()
    for _ in range(3):
        old()
        eventually(lambda: not Expiring.objects.filter(stubborn=False).exists())

    assert tries() <= before + 1


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


def test_a_delete_of_the_model_s_own_is_called_for_each_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def move_instead(row: Expiring) -> None:
        row.state = "kept"
        row.save()

    monkeypatch.setattr(Expiring, "delete", move_instead)
    rows = [old() for _ in range(5)]

    runner = one_pass(Expiring, delete_batch=3)

    assert runner.counters.total("expired") == 5
    assert {fresh(row).state for row in rows} == {"kept"}


def test_a_row_that_its_own_delete_leaves_where_it_is_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mark(row: Expiring) -> None:
        row.stubborn = True
        row.save()

    monkeypatch.setattr(Expiring, "delete", mark)
    rows = [old() for _ in range(3)]

    runner = one_pass(Expiring)

    assert runner.counters.total("expired") == 0
    assert {reason(row) for row in rows} == {
        "django_fsmworker.exceptions.StillThere: delete() left the row in the state gone, and "
        "Expiring.objects still finds it. Let delete() move it to a state without delete_after, "
        "or let that manager hide it."
    }
    assert not any(fresh(row).stubborn for row in rows)


def test_a_default_manager_hides_what_was_deleted_softly(monkeypatch: pytest.MonkeyPatch) -> None:
    def mark(row: Expiring) -> None:
        row.stubborn = True
        row.save()

    class Kept(models.Manager[Expiring]):
        def get_queryset(self) -> models.QuerySet[Expiring]:
            return super().get_queryset().filter(stubborn=False)

    manager: models.Manager[Expiring] = Kept()
    manager.model, manager.name = Expiring, "objects"
    monkeypatch.setattr(Expiring, "delete", mark)
    monkeypatch.setattr(Expiring._meta, "default_manager", manager)
    row = old()

    first, second = one_pass(Expiring), one_pass(Expiring)

    assert first.counters.total("expired") == 1
    assert second.counters.total("expired") == 0
    assert (fresh(row).state, fresh(row).stubborn) == ("gone", True)


class TestTellingOfDeletions:
    @pytest.fixture
    def clinging(self) -> Iterator[Callable[[Expiring], None]]:
        """``clinging(row)``: keep a row by a reference that the database checks at the COMMIT."""
        table, key = Expiring._meta.db_table, "BIGINT NOT NULL"
        if connection.vendor == "sqlite":
            key = "INTEGER NOT NULL"
        with connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TABLE clinging (row_id {key} REFERENCES {table} (id) "
                f"DEFERRABLE INITIALLY DEFERRED)"
            )

        def cling(row: Expiring) -> None:
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO clinging VALUES (%s)", [row.pk])

        yield cling
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE clinging")

    @pytest.mark.postgresql  # MariaDB and MySQL know no reference that is checked at the COMMIT.
    @pytest.mark.sqlite
    def test_rows_that_the_commit_refuses_are_not_told_of(
        self, clinging: Callable[[Expiring], None]
    ) -> None:
        kept, gone = old(), old()
        clinging(kept)

        with heard(row_expired, Expiring) as expired:
            runner = one_pass(Expiring)

        assert list(Expiring.objects.all()) == [kept]
        assert [each["pk"] for each in expired] == [gone.pk]
        assert runner.counters.total("expired") == 1
        assert reason(kept).startswith("django.db.utils.IntegrityError: ")

    def test_what_follows_the_commit_does_not_hide_a_deletion(self) -> None:
        row = old()

        def fail() -> None:
            raise RuntimeError("the postman is ill")

        def tell(**values: Any) -> None:
            transaction.on_commit(fail)

        with heard(row_expired, Expiring) as expired:
            post_delete.connect(tell, sender=Expiring)
            try:
                runner = one_pass(Expiring)
            finally:
                post_delete.disconnect(tell, sender=Expiring)

        assert not Expiring.objects.exists()
        assert [each["pk"] for each in expired] == [row.pk]
        assert runner.counters.total("expired") == 1
        assert failure(row) is None

    def test_a_deletion_that_is_rolled_back_is_told_to_nobody(self) -> None:
        row = old()

        with heard(row_expired, Expiring) as expired:
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                Expiring.state_do_deletes()
                raise ZeroDivisionError
            assert (expired, list(Expiring.objects.all())) == ([], [row])
