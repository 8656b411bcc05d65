"""The limits that graphs declare, on the dashboard."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_fsmworker.models.functions import DatabaseLater
from django_fsmworker.models.limits import WHOLE_LANE, Pause, Permit, key_digest, key_text
from django_fsmworker.store import pauses
from tests.admin.pages import inline_parts

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

PAGE = "/limited/django_fsmworker/worker/stator/"


def take(state, *keys, seconds=60):
    for slot, key in enumerate(keys):
        Permit.objects.create(
            model="tests.Parcel", state=state, key=key_text(key), digest=key_digest(key),
            slot=slot + 1, lease=DatabaseLater(seconds),
        )  # fmt: skip


def lines(client):
    return {each.state: each for each in client.get(PAGE).context["limits"]}


def test_what_is_declared_is_shown(admin_client):
    found = lines(admin_client)

    assert set(found) == {"limited", "five", "keyed", "rated", "metered", "brisk", "broken"}
    assert (found["five"].limit, found["five"].in_use) == ("5", "0")
    assert found["keyed"].limit == "2 for each carrier"
    assert found["metered"].rate == "10 in 1 s for each carrier"
    assert found["broken"].breaker == "closed"


def test_the_permits_in_use_are_counted(admin_client):
    take("limited", WHOLE_LANE, WHOLE_LANE)
    take("five", WHOLE_LANE, seconds=-1)
    take("keyed", 7, 7, 8)

    found = lines(admin_client)

    assert (found["limited"].in_use, found["limited"].is_full) == ("2", True)
    assert (found["five"].in_use, found["five"].is_full) == ("0", False)
    assert (found["keyed"].in_use, found["keyed"].is_full) == ("3 (most of them 2, of 7)", True)


def test_an_open_breaker_is_said_and_can_be_lifted(admin_client):
    pauses.add("default", "tests.Parcel", "broken", WHOLE_LANE, 30, kind=Pause.Kind.BREAKER, by="w")

    page = admin_client.get(PAGE)
    [line] = page.context["pauses"]

    assert lines(admin_client)["broken"].is_open
    assert (line.what, line.until.endswith("when one row is tried")) == (
        "tests.Parcel.broken",
        True,
    )
    assert "pauses/lift/" in page.text
    assert inline_parts(page) == []


def test_without_any_nothing_is_said(admin_client):
    assert "fsmworker-limits" not in admin_client.get("/mixed/django_fsmworker/worker/stator/").text


def test_it_takes_no_more_queries_with_many_keys(admin_client):
    admin_client.get(PAGE)  # logs in
    sent = []
    for keys in ([7], range(40)):
        take("keyed", *keys)
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(PAGE)
        sent.append([each["sql"] for each in queries if "fsmworker_permit" in each["sql"]])
        Permit.objects.all().delete()

    assert [len(each) for each in sent] == [1, 1]
