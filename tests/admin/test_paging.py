"""Lists of more rows than are counted; the bound is a small one here."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.paginator import Paginator
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_fsmworker import clock
from django_fsmworker.admin import paging
from django_fsmworker.models import TransitionRecord
from django_fsmworker.store.postgresql import statistics as postgresql
from tests.admin.pages import keys
from tests.admin.sites import lives
from tests.app.models import BasicModel

pytestmark = pytest.mark.django_db

URL = "/lives/tests/basicmodel/"
MOST = 4


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    own: Any = lives.get_model_admin(BasicModel)
    monkeypatch.setattr(paging, "COUNTED", MOST)
    monkeypatch.setattr(own, "list_per_page", 2)
    monkeypatch.setattr(own, "list_max_show_all", 3)
    return own


def make(number: int) -> None:
    BasicModel.objects.bulk_create([BasicModel() for _ in range(number)])


def test_up_to_the_bound_rows_are_counted(admin_client: Client) -> None:
    make(MOST)

    shown = admin_client.get(URL).context["cl"]

    assert (str(shown.result_count), shown.paginator.num_pages) == ("4", 2)


@pytest.mark.postgresql
@pytest.mark.mysql
def test_more_are_an_estimate_with_pages_of_the_first_of_them(admin_client: Client) -> None:
    make(MOST + 3)

    page = admin_client.get(URL, {"p": 2})

    shown = page.context["cl"]
    assert shown.result_count > MOST
    assert f"~{int(shown.result_count)} basic models" in page.text
    assert shown.paginator.num_pages == 2
    assert len(keys(page)) == 2
    assert admin_client.get(URL, {"p": 3}).status_code == 302


@pytest.mark.postgresql
def test_what_would_take_long_to_count_is_not_counted(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(MOST + 3)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tests_basicmodel")
    monkeypatch.setattr(postgresql, "MOST_COST", 0)

    with CaptureQueriesContext(connection) as queries:
        shown = admin_client.get(URL, {"state": "new"}).context["cl"]

    assert str(shown.result_count) == "~7"
    sent = [query["sql"] for query in queries if query["sql"].startswith("SELECT COUNT(*)")]
    assert not [sql for sql in sent if "WHERE" in sql]


def test_what_is_known_to_match_nothing(admin_client: Client) -> None:
    make(1)

    shown = admin_client.get(URL, {"due": "paused"}).context["cl"]

    assert str(shown.result_count) == "0"


@pytest.mark.sqlite
def test_a_database_without_estimates_counts_all(admin_client: Client) -> None:
    make(MOST + 3)

    shown = admin_client.get(URL).context["cl"]

    assert (str(shown.result_count), shown.paginator.num_pages) == ("7", 4)


def test_records_are_counted_so_too(admin_client: Client, vendor: str) -> None:
    now = clock.now()
    moves = [
        TransitionRecord(model="tests.BasicModel", row="1", digest=1, source="new", at=now)
        for _ in range(MOST + 1)
    ]
    TransitionRecord.objects.bulk_create(moves)

    shown = admin_client.get("/lives/django_fsmworker/transitionrecord/").context["cl"]

    assert str(shown.result_count).startswith("~") is (vendor != "sqlite")


def test_a_paginator_of_your_own_is_kept(
    admin_client: Client, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(Paginator):  # type: ignore[type-arg]
        pass

    make(1)
    monkeypatch.setattr(small, "paginator", Own)

    assert type(admin_client.get(URL).context["cl"].paginator) is Own
