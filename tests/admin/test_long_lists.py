"""Lists whose filter or order takes a long walk over the table: a bounded look instead."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.admin import long_lists
from django_fsmworker.diagnosis import candidates, status
from django_fsmworker.models import FailureRecord
from django_fsmworker.store.postgresql import statistics as postgresql
from tests.admin.pages import keys
from tests.app.models import LabelledKind

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db]

URL = "/lives/tests/basicmodel/"


def ago(seconds: float) -> Any:
    return clock.now() - timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def walks_are_long(monkeypatch):
    monkeypatch.setattr(postgresql, "LONG_WALK", 0)
    monkeypatch.setattr(status, "COUNTED", 0)


@pytest.fixture
def rows(make_row, make_failure):
    held = {"state_claim": 5, "state_lease": ago(-40)}
    made = {
        "due": make_row(state_next=ago(9)),
        "overdue": make_row(state_next=ago(90)),
        "running": make_row(state_next=ago(90), **held),
        "renewed": make_row(state_next=ago(-40), **held),
        "waiting": make_row(state_next=ago(-900)),
        "retried": make_row(state_next=ago(-900), state_failures=1),
        "parked": make_row(state_next=None, state_failures=5),
        "stranded": make_row(state_next=None),
        "lost": make_row(state="lost", state_next=ago(9)),
        "done": make_row(state="deleted", state_next=None),
    }
    make_failure(made["retried"])
    make_failure(made["parked"], count=0, parked=clock.now())
    make_failure(made["due"], resolved=clock.now())
    return made


def opened(client: Any, **asked: str) -> Any:
    return client.get(URL, asked)


FOUND = {
    "now": ["due", "overdue", "lost"],
    "overdue": ["overdue"],
    "running": ["running", "renewed"],
    "waiting": ["waiting", "retried"],
    "failing": ["retried", "parked"],
    "parked": ["parked"],
    "stranded": ["stranded"],
}


@pytest.mark.parametrize("kind", FOUND)
def test_an_index_leads_to_the_same_rows(admin_client, rows, kind):
    page = opened(admin_client, due=kind)

    assert keys(page) == sorted(rows[name].pk for name in FOUND[kind])
    assert keys(opened(admin_client, due=kind, whole="1")) == keys(page)
    assert "fsmworker-bound" not in page.text


def test_of_unknown_states_those_with_a_due_time_are_found(admin_client, rows, make_row):
    make_row(state="older", state_next=None)

    page = opened(admin_client, state="_unknown")

    assert keys(page) == [rows["lost"].pk]
    assert "Rows without a due time were left out." in page.text


@pytest.mark.parametrize("asked", [{"due": "nothing"}, {"o": "3"}, {"o": "-5.2"}])
def test_without_an_index_the_newest_rows_are_looked_through(
    admin_client, make_row, monkeypatch, asked
):
    monkeypatch.setattr(long_lists, "NEWEST", 2)
    made = [make_row(state="deleted", state_next=None) for _ in range(4)]

    page = opened(admin_client, **asked)

    assert keys(page) == [row.pk for row in made[2:]]
    assert "Only the newest 2 rows were looked through." in page.text
    assert "whole=1" in page.text
    assert len(keys(opened(admin_client, **asked, whole="1"))) == 4


@pytest.mark.parametrize("asked", [{}, {"q": "7"}, {"o": "1"}, {"o": "x.99"}, {"state": "new"}])
def test_other_lists_are_left_alone(admin_client, make_row, monkeypatch, asked):
    monkeypatch.setattr(long_lists, "NEWEST", 1)
    for _ in range(3):
        make_row()

    assert "fsmworker-bound" not in opened(admin_client, **asked).text


def test_what_a_short_walk_finds_is_left_alone(admin_client, make_row, monkeypatch):
    monkeypatch.setattr(postgresql, "LONG_WALK", 20_000)
    monkeypatch.setattr(long_lists, "NEWEST", 1)
    made = [make_row(state="deleted", state_next=None) for _ in range(3)]

    assert keys(opened(admin_client, due="nothing")) == [row.pk for row in made]


def test_a_small_table_is_left_alone(admin_client, make_row, monkeypatch):
    monkeypatch.setattr(status, "COUNTED", 3)
    monkeypatch.setattr(long_lists, "NEWEST", 1)
    made = [make_row(state="deleted", state_next=None) for _ in range(3)]

    assert keys(opened(admin_client, due="nothing")) == [row.pk for row in made]


@pytest.mark.parametrize("kind", ["now", "waiting", "failing", "stranded"])
def test_of_too_many_some_are_shown_and_it_is_said(
    admin_client, make_row, make_failure, monkeypatch, kind
):
    monkeypatch.setattr(candidates, "MOST", 2)
    columns = {
        "now": {"state_next": ago(9)},
        "waiting": {"state_next": ago(-900)},
        "failing": {"state_failures": 1},
        "stranded": {"state_next": None},
    }
    for _ in range(3):
        make_failure(make_row(**columns[kind]))

    page = opened(admin_client, due=kind)

    assert len(keys(page)) == 2
    assert "Many rows may match." in page.text


def test_of_running_rows_it_is_said_where_more_were_due_than_looked_at(
    admin_client, rows, monkeypatch
):
    monkeypatch.setattr(candidates, "WALKED", 1)

    assert "Many rows may match." in opened(admin_client, due="running").text


def test_records_of_keys_that_are_none_are_left_out(admin_client, rows, make_failure):
    make_failure(row="not a number")

    assert len(keys(opened(admin_client, due="failing"))) == 2
    assert FailureRecord.objects.filter(resolved=None).count() == 3


@pytest.mark.parametrize("most", [1, 2])
def test_a_child_may_have_another_key_than_the_row_with_its_state(admin_client, monkeypatch, most):
    monkeypatch.setattr(candidates, "MOST", most)
    for label in (98, 99):
        LabelledKind.objects.create(label=label)

    page = admin_client.get("/kinds/tests/labelledkind/", {"due": "now"})

    assert len(keys(page)) == most


def test_an_action_is_about_all_rows_that_match(admin_client, make_row, monkeypatch):
    monkeypatch.setattr(long_lists, "NEWEST", 1)
    for _ in range(3):
        make_row(state_next=ago(-900), state_failures=1)
    chosen = {"action": "state_retry_rows", "select_across": "1", "_selected_action": ["1"]}

    page = admin_client.post(f"{URL}?o=5", chosen)

    assert "It applies to 3 of the 3 rows chosen." in page.text


def test_the_filter_of_an_admins_own_rows_holds(admin_client, rows, monkeypatch):
    from tests.admin.sites import lives
    from tests.app.models import BasicModel

    own = BasicModel.objects.exclude(pk=rows["due"].pk)
    monkeypatch.setattr(lives.get_model_admin(BasicModel), "get_queryset", lambda request: own)

    page = opened(admin_client, due="now")

    assert keys(page) == sorted([rows["overdue"].pk, rows["lost"].pk])
