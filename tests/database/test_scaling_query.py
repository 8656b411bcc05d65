"""The query by which the example for Kubernetes has runners started."""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml
from django.db import connection

from django_fsmworker import clock
from tests.app.models import BasicModel
from tests.paths import ROOT

pytestmark = [pytest.mark.django_db, pytest.mark.postgresql]


def seconds_waited() -> float:
    """What the example's query says of ``BasicModel``."""
    *_, scaled = yaml.safe_load_all((ROOT / "examples" / "kubernetes.yaml").read_text())
    (trigger,) = scaled["spec"]["triggers"]
    query: str = trigger["metadata"]["query"]
    assert "shop_order" in query and "'new', 'paid'" in query
    query = query.replace("shop_order", BasicModel._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(query.replace("'new', 'paid'", "'new'"))
        (waited,) = cursor.fetchone()
        return float(waited)


def test_it_tells_for_how_long_the_oldest_free_row_has_been_due() -> None:
    now = clock.now()
    for age in (100, 10):
        BasicModel.objects.create(state="new", state_next=now - timedelta(seconds=age))
    BasicModel.objects.create(
        state="new",
        state_next=now - timedelta(seconds=1000),
        state_lease=now + timedelta(hours=1),
        state_claim=1,
    )

    assert 99 < seconds_waited() < 200


def test_it_is_nothing_where_none_is_due() -> None:
    BasicModel.objects.create(state="new", state_next=clock.now() + timedelta(hours=1))

    assert seconds_waited() == 0
