"""The dashboard: models, workers, failures and pauses; and orders to workers."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from django_fsmworker import clock, workers
from django_fsmworker.models import Worker
from django_fsmworker.pauses import pause
from testapp.models import Endpoint, Webhook
from tests.admin.pages import inline_parts
from tests.app.models import BasicModel, Parcel

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

INDEX = "/lives/django_fsmworker/worker/"
PAGE = f"{INDEX}stator/"


def worker(**columns: Any) -> Worker:
    """A worker on record that has just given a sign of life."""
    now = clock.now()
    return Worker.objects.create(
        **{
            "id": "orders.17@box",
            "incarnation": 1,
            "name": "orders",
            "host": "box",
            "pid": 4711,
            "served": {"tests.BasicModel": "digest"},
            "status": "ready",
            "wanted": "ready",
            "totals": {"moved": 12345, "failed": 3},
            "started": now,
            "heartbeat": now,
            "expires": now + timedelta(seconds=60),
            **columns,
        }
    )


def section(page: Any, name: str) -> str:
    _, _, rest = page.text.partition(f'id="fsmworker-{name}"')
    return str(rest.partition("</section>")[0])


class TestPage:
    def test_is_where_the_index_leads(self, admin_client):
        answer = admin_client.get(INDEX)

        assert answer.url == PAGE
        assert admin_client.get(f"{INDEX}?o=-3").status_code == 200

    def test_says_that_nobody_runs_a_model(self, admin_client, make_row):
        make_row(state_next=clock.now() - timedelta(minutes=5))

        page = admin_client.get(PAGE)

        assert "Nobody runs tests.BasicModel." in section(page, "models")
        assert "5 min" in section(page, "models")
        assert "No runner is on record." in page.text
        assert inline_parts(page) == []

    def test_of_a_fleet_that_is_well_names_no_trouble(self, admin_client):
        worker()

        page = admin_client.get(PAGE)

        assert "Nobody runs tests.BasicModel." not in page.text
        assert "12345" in section(page, "workers")
        assert "fsmworker-failures" not in page.text
        assert "Nothing is paused." in section(page, "pauses")

    def test_a_lost_worker_runs_nothing(self, admin_client):
        worker(expires=clock.now() - timedelta(seconds=1))

        page = admin_client.get(PAGE)

        assert "lost" in section(page, "workers")
        assert "Nobody runs tests.BasicModel." in page.text
        assert "<button" not in section(page, "workers")

    def test_groups_failures(self, admin_client, make_failure):
        for key in range(3):
            make_failure(row=str(key))
        make_failure(row="9", error="app.<Other>", resolved=clock.now())

        text = section(admin_client.get(PAGE), "failures")

        assert "builtins.ValueError" in text
        assert ">3</td>" in text
        assert "Other" not in text

    def test_calls_states_by_their_labels(self, admin_client, make_failure):
        row = Webhook.objects.create(endpoint=Endpoint.objects.create(name="a"), state="sent")
        make_failure(row, state="sent")
        make_failure(model="gone.Model", state="lost")

        page = admin_client.get(PAGE.replace("lives", "admin"))

        assert ">sent, not confirmed</a>" in section(page, "models")
        assert ">testapp.Webhook, sent, not confirmed<br>" in section(page, "failures")
        assert 'name="state" value="sent"' in section(page, "failures")
        assert ">gone.Model, lost<br>" in section(page, "failures")

    def test_rows_that_are_tried_no_more_stand_last_and_have_no_buttons(
        self, admin_client, make_failure
    ):
        for key, columns in enumerate(({}, {"went_to": "sent"}, {"went_to": "sent"})):
            make_failure(model="testapp.Webhook", row=str(key), state="signed", **columns)

        page = admin_client.get(PAGE.replace("lives", "admin"))

        failing, over = page.context["failures"]
        assert (failing.number, failing.what_became, failing.verbs) == (1, "", ("retry", "park"))
        assert (over.number, over.verbs) == (2, ())
        assert "They went to: sent, not confirmed." in section(page, "failures")

    def test_each_line_begins_with_what_it_is_about(self, admin_client, make_failure):
        worker()
        make_failure(model="tests.Parcel")
        pause(Parcel, "limited")
        Parcel.objects.create()

        page = admin_client.get(PAGE.replace("lives", "limited"))

        for name in ("failures", "pauses", "workers", "models", "limits"):
            lines = section(page, name).split("<tr")[2:]  # after that of the columns
            assert lines
            for line in lines:
                assert re.match(r'[^>]*>\s*<th scope="row"', line), line

    def test_lists_pauses(self, admin_client):
        pause(BasicModel, by="ops", reason="<rain>")

        text = section(admin_client.get(PAGE), "pauses")

        assert "tests.BasicModel" in text
        assert "&lt;rain&gt;" in text

    def test_refreshes_itself_if_it_is_asked_to(self, admin_client):
        assert "http-equiv" not in admin_client.get(PAGE).text
        assert 'content="15"' in admin_client.get(f"{PAGE}?refresh=15").text
        assert "http-equiv" not in admin_client.get(f"{PAGE}?refresh=<1>").text

    def test_goes_on_to_refresh_itself_after_a_button(self, admin_client, make_failure):
        worker()
        make_failure()
        pause(BasicModel, "slow")
        page = admin_client.get(f"{PAGE}?refresh=15").text
        addresses = re.findall(rf'(?:action|href)="({PAGE}[^"]+)"', page)

        answers = [
            admin_client.post(f"{PAGE}{name}/?refresh=15", posted).url
            for name, posted in (
                ("suspend", {"worker": "orders.17@box"}),
                ("pauses/lift", {}),
                ("pauses/set", {"what": "tests.BasicModel", "reason": "snow"}),
            )
        ]

        assert len(addresses) > 6
        assert [each for each in addresses if "refresh=15" not in each] == []
        assert answers == [f"{PAGE}?refresh=15"] * 3
        assert admin_client.post(f"{PAGE}suspend/?refresh=<1>").url == PAGE

    def test_queries_do_not_grow_with_what_it_shows(self, admin_client, make_row, make_failure):
        def asked() -> int:
            with CaptureQueriesContext(connections["default"]) as queries:
                assert admin_client.get(PAGE).status_code == 200
            return len(queries)

        admin_client.get(PAGE)
        before = asked()
        for number in range(20):
            worker(id=f"orders.{number}@box")
            make_failure(make_row(state_failures=1))

        assert asked() == before


class TestOrders:
    @pytest.mark.parametrize(
        ("status", "order", "wanted"),
        [("ready", "suspend", "suspended"), ("suspended", "resume", "ready"),
         ("ready", "stop", "stopped")],
    )  # fmt: skip
    def test_are_given_by_a_button(self, admin_client, status, order, wanted):
        told = worker(status=status, wanted=status)
        assert f"{PAGE}{order}/" in admin_client.get(PAGE).text

        answer = admin_client.post(f"{PAGE}{order}/", {"worker": told.id, "reason": "rain"})

        assert answer.url == PAGE
        found = workers.get(told.id)
        assert (found.wanted, found.ordered_by, found.order_reason) == (wanted, "admin", "rain")

    def test_to_nobody_say_so(self, admin_client):
        answer = admin_client.post(f"{PAGE}stop/", {"worker": "<gone>"}, follow=True)

        assert "There is no record of a worker" in answer.text
        assert "<gone>" not in answer.text

    def test_take_a_permission(self, visitor):
        told = worker()
        client = visitor("django_fsmworker.view_worker")

        assert "<button" not in section(client.get(PAGE), "workers")
        assert client.post(f"{PAGE}stop/", {"worker": told.id}).status_code == 403
        assert workers.get(told.id).wanted == "ready"

    def test_are_no_links(self, admin_client):
        assert admin_client.get(f"{PAGE}stop/").status_code == 405


class TestPermissions:
    def test_who_may_not_view_workers_sees_nothing(self, visitor):
        assert visitor().get(PAGE).status_code == 403

    def test_who_has_no_buttons_has_no_columns_for_them(
        self, visitor, admin_client, make_row, make_failure
    ):
        worker()
        make_failure(make_row(state_failures=1))
        may_look = ("django_fsmworker.view_worker", "django_fsmworker.view_failurerecord")

        for client, columns in ((admin_client, 1), (visitor(*may_look), 0)):
            page = client.get(PAGE)
            assert section(page, "failures").count(">actions</th>") == columns
            assert section(page, "workers").count(">orders</th>") == columns

    def test_models_and_failures_are_shown_to_who_may_view_them(self, visitor, make_failure):
        make_failure()
        client = visitor("django_fsmworker.view_worker", "tests.view_basicmodel")

        page = client.get(PAGE)

        assert "tests.BasicModel" in section(page, "models")
        assert "tests.Account" not in page.text
        assert "fsmworker-failures" not in page.text
