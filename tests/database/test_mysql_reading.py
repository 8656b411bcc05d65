"""Values that the driver itself cannot read: the claim stands, and no other row suffers."""

from __future__ import annotations

from datetime import time
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.store import Lane, store_for
from tests.app.models import NoopStates
from tests.database.rows import LEASE

pytestmark = [pytest.mark.mysql, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def model():
    with isolate_apps("testapp"):

        class Shape(StatorModel):
            __module__ = "testapp.models"
            state = StateField(NoopStates)
            opens = models.TimeField()
            since = models.DateTimeField(null=True)

    with connection.schema_editor() as editor:
        editor.create_model(Shape)
    yield Shape
    with connection.schema_editor() as editor:
        editor.delete_model(Shape)


def test_a_time_of_day_that_is_none(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    good = [model.objects.create(opens=time(hour)) for hour in (8, 9)]
    bad = model.objects.create(opens=time(10))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE testapp_shape SET opens = '838:59:59' WHERE id = %s", [bad.pk])

    rows = store_for("default").claim(model, [Lane("new", 10)], LEASE)

    assert {row.pk for row in rows} == {row.pk for row in [*good, bad]}
    assert len({row.state_claim for row in rows}) == 1
    assert [row.opens for row in rows if row != bad] == [time(8), time(9)]
    (read,) = [row for row in rows if row == bad]
    assert "opens" in read.get_deferred_fields()
    assert f"testapp.Shape {bad.pk} cannot be loaded" in caplog.text
    assert model.objects.running().count() == 3


def test_a_moment_that_is_none(model: Any) -> None:
    """To mysqlclient it is no moment, PyMySQL cannot read it."""
    row = model.objects.create(opens=time(8))
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = ''")
        cursor.execute("UPDATE testapp_shape SET since = '0000-00-00'")

    (read,) = store_for("default").claim(model, [Lane("new", 10)], LEASE)

    assert read.pk == row.pk
    assert "since" in read.get_deferred_fields() or read.since is None
    connection.close()
