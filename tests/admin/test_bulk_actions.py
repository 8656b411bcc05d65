"""Bulk actions in the admin: from the list, over the preview, to their page and their buttons."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_fsmworker import clock
from django_fsmworker.admin import StatorModelAdmin
from django_fsmworker.admin import preview as previews
from django_fsmworker.bulk import running
from django_fsmworker.bulk.starting import start, stop
from django_fsmworker.models import BulkAction, Event
from django_fsmworker.testing import step
from testapp.models import Endpoint, Webhook
from tests.admin.pages import inline_parts
from tests.admin.test_selection import URL, chosen, confirmed, said
from tests.app.models import Account, BasicModel, Purchase

pytestmark = pytest.mark.django_db(databases=["default", "other"])

ACTIONS = "/lives/django_fsmworker/bulkaction/"
MAY = ("tests.view_basicmodel", "tests.change_basicmodel", "django_fsmworker.retry_row")


@pytest.fixture
def parked(make_row):
    return [make_row(state_next=None, state_failures=5) for _ in range(3)]


@pytest.fixture
def few(monkeypatch):
    """A request acts on one row at the most."""
    monkeypatch.setattr(StatorModelAdmin, "state_action_limit", 1)


@pytest.fixture
def action(parked):
    start("retry", BasicModel.objects.parked(), by="ops", reason="the disk is back")
    return BulkAction.objects.get()


def order(client: Client, action: BulkAction, name: str, **posted: Any) -> Any:
    return client.post(f"{ACTIONS}{action.pk}/state/{name}/", posted, follow=True)


def finish() -> BulkAction:
    action = BulkAction.objects.get()
    while action.state in ("pending", "running"):
        step(action)
    return action


class TestStarting:
    def test_more_rows_than_a_request_does_are_left_to_the_runners(self, admin_client, parked, few):
        filtered = f"{URL}?due=parked"

        answer = admin_client.post(
            filtered,
            confirmed("retry", parked[0], select_across="1", reason="the disk is back"),
            follow=True,
        )

        action = BulkAction.objects.get()
        assert answer.redirect_chain[-1][0] == f"{ACTIONS}{action.pk}/change/"
        assert (action.by, action.reason, action.described) == (
            "admin",
            "the disk is back",
            "due=parked",
        )
        assert BasicModel.objects.parked().count() == 3
        assert finish().done == 3
        assert not BasicModel.objects.parked().exists()

    def test_to_start_it_takes_as_many_queries_for_any_number_of_rows(
        self, admin_client, parked, few
    ):
        asked = []
        for _ in range(2):
            with CaptureQueriesContext(connection) as queries:
                admin_client.post(
                    f"{URL}?due=parked", confirmed("retry", parked[0], select_across="1")
                )
            asked.append(len(queries))
            BasicModel.objects.bulk_create(BasicModel() for _ in range(200))
            BasicModel.objects.update(state_next=None, state_failures=5)

        assert BulkAction.objects.count() == 2
        assert asked[0] == asked[1] < 20

    @pytest.mark.once
    def test_it_takes_a_permission_of_its_own(self, visitor, parked, few):
        client = visitor(*MAY)

        asked = client.post(URL, chosen("retry", *parked))
        answer = client.post(URL, confirmed("retry", *parked), follow=True)

        assert asked.context["warning"] == said(answer)[0]
        assert said(answer)[0].startswith("More than 1 rows match, which is more than one request")
        assert not BulkAction.objects.exists()

    def test_the_rows_of_the_admins_own_queryset_only(self, admin_client, admin_user):
        own = [Purchase.objects.create(owner="admin", state="held") for _ in range(2)]
        other = Purchase.objects.create(owner="somebody", state="held")

        admin_client.post(
            "/tenants/tests/purchase/",
            confirmed("force", own[0], other, select_across="1", subject="done", reason="late"),
        )
        action = finish()

        other.refresh_from_db()
        assert (action.state, action.done, other.state) == ("done", 2, "held")
        assert Purchase.objects.filter(state="done").count() == 2

    @pytest.mark.once
    def test_a_row_of_another_tenant_cannot_be_selected(self, admin_client):
        other = Purchase.objects.create(owner="somebody", state="held")

        admin_client.post(
            "/tenants/tests/purchase/",
            confirmed("force", other, subject="done", reason="late"),
        )

        other.refresh_from_db()
        assert other.state == "held"

    @pytest.mark.parametrize(("site", "shown"), [("elsewhere", True), ("mixed", False)])
    def test_rows_of_another_database(self, admin_client, make_row, few, site, shown):
        rows = [make_row(using="other", state_next=None, state_failures=5) for _ in range(2)]

        answer = admin_client.post(
            f"/{site}/tests/basicmodel/", confirmed("retry", *rows), follow=True
        )

        action = BulkAction.objects.using("other").get()
        page = f"/elsewhere/django_fsmworker/bulkaction/{action.pk}"
        assert (answer.redirect_chain[-1][0] == f"{page}/change/") is shown
        assert said(answer) == [f"The runners do it: retry tests.BasicModel {action.pk}."]
        admin_client.post(f"{page}/state/stop/")
        assert BulkAction.objects.using("other").get().state == "stopped"

    @pytest.mark.once
    def test_a_request_without_a_token_is_refused(self, admin_user, parked, few):
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin_user)

        assert client.post(URL, confirmed("retry", *parked)).status_code == 403
        assert not BulkAction.objects.exists()


@pytest.mark.once
class TestVerbs:
    def test_what_is_asked_names_the_state_and_the_model(self, admin_client):
        row = Webhook.objects.create(endpoint=Endpoint.objects.create(name="a"))

        page = admin_client.post("/admin/testapp/webhook/", chosen("force", row, subject="sent"))

        shown = (page.context["title"], page.context["subtitle"], page.context["label"])
        label = "Force into a state: sent, not confirmed"
        assert shown == (label, "Webhooks", label)

    def test_which_event_is_asked_first(self, admin_client):
        account = Account.objects.create()
        page = admin_client.post("/lives/tests/account/", chosen("send", account))

        assert '<option value="freeze">freeze</option>' in page.text
        assert 'name="confirmed"' not in page.text
        assert inline_parts(page) == []

    def test_the_events_form_is_filled_in_with_the_preview(self, admin_client):
        row = Purchase.objects.create(state="held")
        url = "/lives/tests/purchase/"

        page = admin_client.post(url, chosen("send", row, subject="pay"))
        assert 'name="event-amount"' in page.text
        wrong, right = ({"subject": "pay", "event-amount": amount} for amount in ("0", "7"))
        again = admin_client.post(url, confirmed("send", row, **wrong))
        assert "greater than or equal to 1" in again.text
        admin_client.post(url, confirmed("send", row, **right))

        event = Event.objects.get()
        assert (event.trigger, event.context, event.by) == ("pay", {"amount": 7}, "admin")

    def test_an_event_that_the_user_may_not_send(self, visitor):
        account = Account.objects.create(state="frozen")
        client = visitor("tests.change_account", "django_fsmworker.send_event")

        answer = client.post(
            "/lives/tests/account/", confirmed("send", account, subject="thaw"), follow=True
        )

        assert not Event.objects.exists()
        assert len(said(answer)) == 1

    def test_rows_are_moved(self, admin_client, make_row):
        new, deleted = make_row(), make_row(state="deleted", state_next=None)

        answer = admin_client.post(
            URL, confirmed("move", new, deleted, subject="done"), follow=True
        )

        new.refresh_from_db()
        assert (said(answer), new.state) == (
            ["Move to a state: 1 row was written, 1 left out."],
            "done",
        )

    @pytest.mark.parametrize("verb", ["force", "restart"])
    def test_to_force_takes_a_reason_and_a_permission(self, visitor, make_row, verb):
        row = make_row(state="done", state_next=None)
        client = visitor("tests.change_basicmodel", "django_fsmworker.force_row")
        posted = confirmed(verb, row, subject="new")

        page = client.post(URL, posted)
        row.refresh_from_db()
        assert (said(page), row.state) == (["Give a reason: it is put on record."], "done")
        client.post(URL, {**posted, "reason": "again"})
        row.refresh_from_db()
        assert row.state == "new"

    def test_without_that_permission_it_is_not_offered(self, visitor, make_row):
        row = make_row(state="done", state_next=None)
        client = visitor("tests.change_basicmodel", "django_fsmworker.move_row")

        answer = client.post(URL, confirmed("force", row, subject="new", reason="again"))

        row.refresh_from_db()
        assert (answer.status_code, row.state) == (403, "done")
        assert "state_force_rows" not in client.get(URL).text

    def test_a_row_has_no_button_to_force_it(self, admin_client, make_row):
        row = make_row()

        assert admin_client.post(f"{URL}{row.pk}/state/force/done/").status_code == 403

    def test_what_a_model_does_not_have_is_not_offered(self, admin_client, make_row):
        make_row()

        page = admin_client.get(URL).text

        assert "state_move_rows" in page
        assert "state_send_rows" not in page


@pytest.mark.once
class TestPreview:
    def test_why_rows_are_left_out(self, admin_client, make_row, parked):
        done, due = make_row(state="done", state_next=None), make_row()
        held = make_row(state_lease=clock.now() + timedelta(minutes=1), state_claim=4)

        page = admin_client.post(URL, chosen("retry", *parked, done, due, held))

        assert "It applies to 3 of the 6 rows chosen. The others are left out:" in page.text
        assert "<li>1: It is due already.</li>" in page.text
        assert "<li>1: A runner holds it.</li>" in page.text
        assert "<li>1: Its state does not allow it.</li>" in page.text

    def test_of_many_rows_some_are_looked_at(self, admin_client, parked, few, monkeypatch):
        monkeypatch.setattr(previews, "LOOKED_AT", 2)

        page = admin_client.post(URL, chosen("retry", *parked))

        assert "rows match. It applies to 2 of the first 2; the runners do it on all" in page.text
        assert "~" in page.text

    def test_that_nobody_would_do_it(self, admin_client, parked, few):
        page = admin_client.post(URL, chosen("retry", *parked))

        assert "No living runner would do it now. Start one: manage.py runstator" in page.text


@pytest.mark.once
class TestItsPage:
    def test_progress_and_what_was_left_out(self, admin_client, make_row, action):
        due = make_row()
        BulkAction.objects.update(
            done=2, left_out=1, matched=6, state="running", skipped={"due": [1, [str(due.pk)]]}
        )

        page = admin_client.get(f"{ACTIONS}{action.pk}/change/")

        assert "3 of 6 rows were looked at." in page.text
        assert '<progress max="100" value="50"' in page.text
        assert "2 were written, 1 left out." in page.text
        assert f'<a href="{URL}{due.pk}/change/">{due.pk}</a>' in page.text
        assert "It is due already." in page.text
        assert inline_parts(page) == []

    def test_that_no_living_runner_serves_it(self, admin_client, action):
        page = admin_client.get(f"{ACTIONS}{action.pk}/change/")

        assert "No living worker runs rows of tests.BasicModel." in page.text

    def test_why_it_has_failed(self, admin_client, action, monkeypatch):
        monkeypatch.setattr(running, "keys_after", lambda *args: 1 / 0)
        while action.state in ("pending", "running"):
            step(action, raise_failures=False)

        page = admin_client.get(f"{ACTIONS}{action.pk}/change/")

        assert action.state == "failed"
        assert "division by zero" in page.text
        assert "Resume" in page.text

    def test_stopped_and_resumed(self, admin_client, action):
        answer = order(admin_client, action, "stop", reason="wait")
        action.refresh_from_db()
        assert (said(answer), action.state) == (["Done: Stop."], "stopped")
        assert order(admin_client, action, "stop").status_code == 200

        order(admin_client, action, "resume")

        assert finish().done == 3

    def test_what_is_done_cannot_be_stopped(self, admin_client, action):
        finish()

        answer = order(admin_client, action, "stop")

        action.refresh_from_db()
        assert action.state == "done"
        assert len(said(answer)) == 1

    def test_orders_are_posted(self, admin_client, action):
        assert admin_client.get(f"{ACTIONS}{action.pk}/state/stop/").status_code == 405
        assert admin_client.post(f"{ACTIONS}{action.pk}/state/delete/").status_code == 403

    def test_who_may_only_view_has_no_buttons(self, visitor, action):
        client = visitor("django_fsmworker.view_bulkaction")

        page = client.get(f"{ACTIONS}{action.pk}/change/")

        assert page.status_code == 200
        assert "/state/stop/" not in page.text
        assert order(client, action, "stop").status_code == 403

    def test_pages_that_only_show(self, admin_client, action):
        page = f"/shown/django_fsmworker/bulkaction/{action.pk}"

        assert "/state/stop/" not in admin_client.get(f"{page}/change/").text
        assert admin_client.post(f"{page}/state/stop/").status_code == 403

    def test_who_may_only_run_them_sees_his_own(self, visitor, action):
        client = visitor("django_fsmworker.run_bulkaction")
        start("retry", BasicModel.objects.all(), by=User.objects.get(username="visitor"))
        own = BulkAction.objects.latest("pk")

        order(client, action, "stop")

        assert BulkAction.objects.get(pk=action.pk).state == "pending"
        assert client.get(f"{ACTIONS}{own.pk}/change/").status_code == 200
        order(client, own, "stop")
        assert BulkAction.objects.get(pk=own.pk).state == "stopped"

    def test_the_list(self, admin_client, action):
        stop(action)

        page = admin_client.get(f"{ACTIONS}?state=stopped")

        assert page.context["cl"].result_count == 1
        assert "ops" in page.text

    def test_the_dashboard_lists_what_is_not_done(self, admin_client, action):
        url = "/lives/django_fsmworker/worker/stator/"
        assert f'{ACTIONS}{action.pk}/change/">retry tests.BasicModel' in (
            admin_client.get(url).text
        )

        finish()

        assert "Bulk actions</h2>" not in admin_client.get(url).text
