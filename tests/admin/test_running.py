"""For how long a row has been run, in a list and on its page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from tests.admin.pages import cells
from tests.app.models import LabelledKind, ParentKind
from tests.workers_on_record import on_record

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

URL = "/lives/tests/basicmodel/"


def ago(seconds: float) -> Any:
    return clock.now() - timedelta(seconds=seconds)


def worker(name: str = "a", *, lease: float = 3600, **columns: Any) -> None:
    on_record(
        name,
        **{
            "served": {"tests.BasicModel": ""},
            "options": {"lease": lease},
            "running": [],
            **columns,
        },
    )


def runs(key: Any, seconds: float, state: str = "new") -> list[dict[str, Any]]:
    return [{"model": "tests.BasicModel", "state": state, "keys": [str(key)], "seconds": seconds}]


@pytest.fixture
def claimed(make_row):
    """A row that was claimed eight minutes ago, with a lease of an hour."""
    return make_row(state_next=ago(500), state_claim=5, state_lease=ago(-3120))


@pytest.fixture
def renewed(make_row):
    """A row whose lease was renewed."""
    end = ago(-3120)
    return make_row(state_next=end, state_claim=5, state_lease=end)


def test_a_fresh_claim_began_a_lease_before_its_end(admin_client, claimed):
    worker()

    assert cells(admin_client.get(URL), "shown_due") == ["running 8 min"]


def test_of_a_renewed_one_its_worker_tells(admin_client, renewed):
    worker(running=runs(renewed.pk, 130), silent=10)

    assert cells(admin_client.get(URL), "shown_due") == ["running 2 min"]
    assert "running 2 min" in admin_client.get(f"{URL}{renewed.pk}/change/").text


def test_of_a_child_with_another_key_the_rows_with_its_state_are_told(admin_client):
    end = ago(-3120)
    row = LabelledKind.objects.create(label=99)
    held = {"state_next": end, "state_claim": 5, "state_lease": end}
    ParentKind.objects.filter(pk=row.parentkind_ptr_id).update(**held)
    told = {**runs(row.parentkind_ptr_id, 130)[0], "model": "tests.ParentKind"}
    worker(served={"tests.ParentKind": ""}, running=[told], silent=10)

    page = admin_client.get("/kinds/tests/labelledkind/")

    assert cells(page, "shown_due") == ["running 2 min"]


def test_a_claim_after_the_workers_word_counts(admin_client, claimed):
    worker(running=runs(claimed.pk, 1200), silent=10)

    assert cells(admin_client.get(URL), "shown_due") == ["running 8 min"]


@pytest.mark.parametrize(
    ("key", "state", "silent"),
    [(0, "new", 0), (None, "slow", 0), (None, "new", 40)],
    ids=["of another row", "of another state", "by a lost worker"],
)
def test_what_nobody_tells_is_left_out(admin_client, renewed, key, state, silent):
    worker(running=runs(renewed.pk if key is None else key, 130, state), silent=silent)

    assert cells(admin_client.get(URL), "shown_due") == ["running"]


def test_a_lease_may_have_several_lengths(admin_client, claimed):
    worker("a", lease=3600)
    worker("b", lease=60)

    assert cells(admin_client.get(URL), "shown_due") == ["running"]


def test_a_revoked_claim_does_not_tell_when_it_began(admin_client, make_row):
    worker()
    make_row(state_next=ago(500), state_claim=-5, state_lease=ago(-3120))

    assert cells(admin_client.get(URL), "shown_due") == ["running"]


@pytest.mark.parametrize("number", [1, 20])
def test_it_is_one_query_for_all(admin_client, make_row, django_assert_num_queries, number):
    for _ in range(number):
        make_row(state_next=ago(500), state_claim=5, state_lease=ago(-3120))
    worker()

    # As without such rows, and one for the workers.
    with django_assert_num_queries(7):
        page = admin_client.get(URL)

    assert cells(page, "shown_due") == ["running 8 min"] * number
