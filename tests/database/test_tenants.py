"""``state_tenant``: the column whose value the log has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.checks import Error
from django.db import connection, models
from django.test.utils import CaptureQueriesContext, isolate_apps

from django_fsmworker import checks
from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.models.tenants import tenant_of
from django_fsmworker.runner.in_flight.log_fields import row_fields
from tests.app.models import Delivery, Endpoint, Noop, NoopStates

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with isolate_apps("testapp") as apps:
        monkeypatch.setattr("django_fsmworker.checks.models.apps", apps)
        yield


def test_it_is_the_key_that_a_relation_holds() -> None:
    endpoint = Endpoint.objects.create()
    row = Delivery.objects.create(endpoint=endpoint)

    assert tenant_of(row) == endpoint.pk


def test_nothing_is_loaded_for_it() -> None:
    row = Delivery.objects.create(endpoint=Endpoint.objects.create())
    deferred = Delivery.objects.defer("endpoint").get(pk=row.pk)

    with CaptureQueriesContext(connection) as queries:
        assert tenant_of(deferred) is None
    assert not len(queries)


def test_a_model_that_names_none_has_none() -> None:
    assert tenant_of(Noop()) is None


def test_rows_of_several_tenants_have_no_field_for_it() -> None:
    rows = [Delivery(endpoint_id=number, state_failures=0) for number in (1, 1, 2)]

    assert row_fields(rows[:2], "", "new", "")["tenant"] == 1
    assert "tenant" not in row_fields(rows, "", "new", "")


def test_e022_of_no_column(isolated: None) -> None:
    class Parcel(StatorModel):
        __module__ = "testapp.models"
        state_tenant = "endpoint__owner"
        state = StateField(NoopStates)

    assert checks.check_models(None) == [
        Error(
            "testapp.Parcel has state_tenant = 'endpoint__owner', which is no column of its own "
            "table.",
            hint="Name a column of the table that has the state; a line of the log loads nothing.",
            obj=Parcel,
            id="fsmworker.E023",
        )
    ]


def test_a_column_may_be_named_either_way(isolated: None) -> None:
    for name in ("endpoint", "endpoint_id"):
        type(
            f"Parcel{name}",
            (StatorModel,),
            {
                "__module__": "testapp.models",
                "state_tenant": name,
                "state": StateField(NoopStates),
                "endpoint": models.ForeignKey(Endpoint, models.CASCADE, related_name="+"),
            },
        )

    assert checks.check_models(None) == []
