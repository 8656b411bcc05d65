"""Records go when their rows do, however these were deleted; those of rows that are there stay."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from django_fsmworker import clock
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models import FailureRecord
from django_fsmworker.runner.counters import Counters
from django_fsmworker.runner.database.outages import OutageTracker
from django_fsmworker.runner.housekeeping import Housekeeping
from django_fsmworker.store import store_for
from django_fsmworker.store.failures import Failure, drop_orphans, record
from testapp.models import Order
from tests.app.models import RelatedKey, TextKey
from tests.database.rows import statements
from tests.model_kinds import KindOfModel, every_kind

pytestmark = pytest.mark.django_db(databases=["default", "other"])

FAILURE = Failure("RuntimeError", "no")


def note(model: Any, *keys: Any, using: str = "default") -> None:
    record(using, model, [(key, "new", FAILURE) for key in keys], "worker")


def left(using: str = "default") -> set[str]:
    return set(FailureRecord.objects.using(using).values_list("row", flat=True))


class TestDeletedRows:
    def two(self) -> tuple[Order, Order]:
        gone, kept = Order.objects.create(), Order.objects.create()
        note(Order, gone.pk, kept.pk)
        return gone, kept

    def through_the_instance(self, row: Any) -> None:
        row.delete()

    def through_a_queryset(self, row: Any) -> None:
        Order.objects.filter(pk=row.pk).delete()

    def by_sql(self, row: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {Order._meta.db_table} WHERE id = %s", [row.pk])

    @pytest.mark.parametrize("way", [through_the_instance, through_a_queryset, by_sql])
    def test_take_their_records_along(self, way: Any) -> None:
        gone, kept = self.two()
        way(self, gone)

        assert drop_orphans("default", 0, 100) is None

        assert left() == {str(kept.pk)}

    def test_deleted_by_a_cascade(self) -> None:
        text = TextKey.objects.create(code="a")
        row = RelatedKey.objects.create(text=text)
        note(RelatedKey, row.pk)
        text.delete()

        drop_orphans("default", 0, 100)

        assert left() == set()

    def test_resolved_ones_too(self) -> None:
        gone, kept = self.two()
        FailureRecord.objects.update(resolved=clock.now())
        gone.delete()

        drop_orphans("default", 0, 100)

        assert left() == {str(kept.pk)}


@every_kind
def test_of_every_kind_of_key(kind: KindOfModel, settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.ByModel"]
    rows = [kind.stored(kind.row(number)) for number in range(3)]
    note(kind.runs, *[row.pk for row in rows], using=kind.using)
    gone = rows[1]
    before = left(kind.using)
    gone.delete()

    drop_orphans(kind.using, 0, 100)

    assert len(before) == 3
    assert len(left(kind.using)) == 2


def test_a_long_key_is_looked_for_by_its_beginning() -> None:
    from django_fsmworker.models.keys import present_rows, row_key

    TextKey.objects.create(code="k" * 40)
    name = row_key("k" * 300)

    assert present_rows(TextKey, [name, "k" * 40, "other"], "default") == {"k" * 40}


class TestModels:
    def rename(self, label: str, ago: timedelta) -> None:
        FailureRecord.objects.update(model=label, last_seen=clock.now() - ago)

    def test_that_are_gone_lose_their_records_after_a_week(self) -> None:
        note(Order, Order.objects.create().pk)
        self.rename("testapp.Purchase", timedelta(days=6))
        drop_orphans("default", 0, 100)
        assert len(left()) == 1

        self.rename("testapp.Purchase", timedelta(days=8))
        drop_orphans("default", 0, 100)

        assert left() == set()

    def test_that_are_installed_keep_theirs(self) -> None:
        note(Order, Order.objects.create().pk)
        self.rename("auth.User", timedelta(days=8))

        drop_orphans("default", 0, 100)

        assert len(left()) == 1


class TestHousekeeping:
    def housekeeping(self) -> Housekeeping:
        stores = {Order: store_for("default")}
        return Housekeeping(stores, RunnerSettings.load(), Counters(), OutageTracker(), "worker")

    def test_goes_on_where_it_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("django_fsmworker.runner.housekeeping.RECORDS_A_TURN", 2)
        rows = [Order.objects.create() for _ in range(5)]
        note(Order, *[row.pk for row in rows])
        kept = FailureRecord.objects.earliest("pk").row  # records are made in the order of texts
        Order.objects.exclude(pk=kept).delete()
        housekeeping = self.housekeeping()

        numbers = []
        for _ in range(3):
            housekeeping._drop_orphans("default")
            numbers.append(len(left()))

        assert numbers == [4, 2, 1]

    def test_costs_two_statements_a_turn_where_nothing_is_gone(self) -> None:
        rows = [Order.objects.create() for _ in range(5)]
        note(Order, *[row.pk for row in rows])
        housekeeping = self.housekeeping()

        with statements() as sent:
            housekeeping._drop_orphans("default")

        assert len(sent) == 2
        assert len(left()) == 5
