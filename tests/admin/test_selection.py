"""The operators' verbs in the list: for rows that are selected, and for all that match."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_fsmworker import clock
from tests.admin.pages import inline_parts
from tests.app.models import BasicModel

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

URL = "/lives/tests/basicmodel/"


def chosen(verb, *rows, **more):
    keys = [row.pk for row in rows]
    return {"action": f"state_{verb}_rows", "_selected_action": keys, "index": "0", **more}


def confirmed(verb, *rows, **more):
    posted = chosen(verb, *rows, confirmed="1", **more)
    del posted["index"]
    return posted


def said(answer):
    return [str(each) for each in answer.context["messages"]]


@pytest.fixture
def parked(make_row):
    return [make_row(state_next=None, state_failures=5) for _ in range(2)]


def number_parked(using="default"):
    return BasicModel.objects.using(using).parked().count()


def test_it_says_first_to_how_many_rows_it_applies(admin_client, make_row, parked):
    done = make_row(state="done", state_next=None)

    page = admin_client.post(URL, chosen("retry", *parked, done))

    assert "It applies to 2 of the 3 rows chosen. The others are left out:" in page.text
    assert page.text.count('name="_selected_action"') == 3
    assert inline_parts(page) == []
    assert number_parked() == 2


def test_it_does_what_is_confirmed(admin_client, make_row, parked):
    done, other = make_row(state="done", state_next=None), make_row(state_failures=2)

    answer = admin_client.post(URL, confirmed("retry", *parked, done), follow=True)

    other.refresh_from_db()
    assert said(answer) == ["Retry now: 2 rows were written, 1 left out."]
    assert (number_parked(), other.state_failures) == (0, 2)


def test_all_that_match_the_filters(admin_client, make_row, parked):
    later = make_row(state_next=clock.now() + timedelta(days=1))
    before = later.state_next

    admin_client.post(f"{URL}?due=parked", confirmed("retry", parked[0], select_across="1"))

    later.refresh_from_db()
    assert (number_parked(), later.state_next) == (0, before)


def test_to_park_takes_a_reason(admin_client, make_row):
    row = make_row()

    page = admin_client.post(URL, confirmed("park", row))
    assert said(page) == ["Give a reason to park them for: it is put on record."]
    assert number_parked() == 0

    admin_client.post(URL, confirmed("park", row, reason="not today"))
    assert row.failure.parked_reason == "not today"

    admin_client.post(URL, confirmed("unpark", row))
    assert number_parked() == 0


def test_cancel_where_nothing_runs(admin_client, make_row):
    answer = admin_client.post(URL, confirmed("cancel", make_row()), follow=True)

    assert said(answer) == ["Cancel what runs: 0 rows were written, 1 left out."]


def test_rows_of_another_database(admin_client, make_row):
    row = make_row(using="other", state_next=None, state_failures=5)

    admin_client.post("/elsewhere/tests/basicmodel/", confirmed("retry", row))

    assert number_parked("other") == 0


@pytest.mark.parametrize(
    "permissions",
    [
        ("tests.view_basicmodel", "django_fsmworker.retry_row"),
        ("tests.change_basicmodel", "django_fsmworker.park_row"),
    ],
)
def test_it_takes_both_permissions(visitor, parked, permissions):
    client = visitor(*permissions)

    assert client.post(URL, confirmed("retry", *parked)).status_code == 403
    assert "state_retry_rows" not in client.get(URL).text
    assert number_parked() == 2


def test_pages_that_only_show(admin_client, parked):
    answer = admin_client.post("/shown/tests/basicmodel/", confirmed("retry", *parked))

    assert answer.status_code == 403
    assert number_parked() == 2
