"""What the top of the dashboard says: what needs somebody's attention, or that all is well."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.models import Worker
from django_fsmworker.pauses import pause
from tests.admin.sites import lives
from tests.app.models import BasicModel, Purchase
from tests.workers_on_record import on_record

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]


# Django's test case lets nobody connect to others than it has prepared, but for this one.
AWAY = NO_DB_ALIAS
PAGE = "/lives/django_fsmworker/worker/stator/"


def worker(name: str = "orders.17@box", silent: float = 0) -> Worker:
    return on_record(name, silent=silent, served={"tests.BasicModel": "digest"})


def said(page: Any) -> list[str]:
    return list(page.context["trouble"])


def late(**amount: float) -> Any:
    return clock.now() - timedelta(**amount)


def test_a_fleet_that_is_well(admin_client, make_row):
    worker()
    make_row(state_next=late(seconds=5))

    page = admin_client.get(PAGE)

    assert said(page) == []
    assert "All is well" in page.text


def test_rows_that_nobody_runs(admin_client, make_row):
    make_row(state_next=late(seconds=5))

    page = admin_client.get(PAGE)

    assert said(page) == ["Nobody runs tests.BasicModel; rows that are due: 1."]
    assert "All is well" not in page.text


def test_everything_at_once(admin_client, make_row):
    worker()
    worker("orders.18@box", silent=31)
    make_row(state_next=late(minutes=5))
    make_row(state_failures=1, state_next=late(minutes=-5))
    make_row(state_failures=5, state_next=None)
    pause(BasicModel, "slow")

    assert said(admin_client.get(PAGE)) == [
        "1 worker is lost.",
        "Rows of tests.BasicModel have been due for 5 min.",
        "2 rows fail.",
        "1 row is parked.",
        "1 pause is in force.",
    ]


def test_rows_in_states_that_the_graph_does_not_declare(admin_client, make_row):
    worker()
    make_row(state="done", state_next=None)
    make_row(state="<old>", state_next=None)
    alone = said(admin_client.get(PAGE))
    make_row(state="older", state_next=None)

    page = admin_client.get(PAGE)

    [one] = alone
    assert one == (
        "1 row of tests.BasicModel is in a state that its graph does not declare: nobody runs it."
    )
    assert said(page) == [
        "2 rows of tests.BasicModel are in states that its graph does not declare: nobody runs "
        "them."
    ]
    assert page.text.count(">not declared</strong>") == 2


@pytest.fixture
def away(monkeypatch):
    """A database that nobody has started, with the rows of an admin."""
    nowhere = {"NAME": "/nowhere/at/all", "HOST": "127.0.0.1", "PORT": "1", "OPTIONS": {}}
    monkeypatch.setitem(connections.settings, AWAY, connections.settings["other"] | nowhere)
    rows: QuerySet[Purchase] = QuerySet(Purchase, using=AWAY)
    purchases = lives.get_model_admin(Purchase)
    monkeypatch.setattr(purchases, "get_queryset", lambda request: rows)


def test_a_database_that_is_away(admin_client, make_row, make_failure, away):
    worker()
    [paused] = pause(BasicModel, "slow")
    make_failure(make_row(state_failures=1, state_next=late(minutes=-5)))

    page = admin_client.get(PAGE)
    orders = admin_client.post(f"{PAGE}suspend/", {"worker": "orders.17@box"}, follow=True)
    lift = {"pause": paused.pk, "database": "default"}
    lifted = admin_client.post(f"{PAGE}pauses/lift/", lift, follow=True)

    assert said(page) == [
        f"The database {AWAY} cannot be reached; nothing of it is shown.",
        "1 row fails.",
        "1 pause is in force.",
    ]
    assert "tests.BasicModel" in page.text
    assert "tests.Purchase" not in page.text
    assert "has been told" in orders.text
    assert "The pause is lifted" in lifted.text


def test_numbers_lead_to_their_rows(admin_client, make_row):
    make_row(state_failures=1, state_next=late(minutes=-5))

    text = admin_client.get(PAGE).text

    assert 'href="/lives/tests/basicmodel/?state=new&amp;due=failing"' in text
    assert 'href="/lives/tests/basicmodel/?due=failing"' in text
    assert "due=parked" not in text
