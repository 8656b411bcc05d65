"""Durable events in the admin: the list, a page, the actions, and those of a row on its page."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry

from django_fsmworker.events import submit_event
from django_fsmworker.models import Event
from django_fsmworker.testing import run_until_idle
from tests.admin.pages import cells, choices, inline_parts, keys
from tests.app.models import Account, Purchase
from tests.app.models.accounts import ACTIONS

pytestmark = [pytest.mark.once, pytest.mark.django_db]

EVENTS = "/lives/django_fsmworker/event/"
HOSTILE = "<script>alert('x')</script></pre><b>bold"


@pytest.fixture
def row():
    return Account.objects.create()


@pytest.fixture
def failed(row, monkeypatch):
    """An event that has failed for good."""

    def fail(row: Any, event: Any) -> None:
        raise ValueError(HOSTILE)

    monkeypatch.setitem(ACTIONS, "fail", fail)
    key = submit_event(row, "call", {"mode": "fail"}, max_attempts=1)
    run_until_idle(Account, raise_failures=False)
    return Event.objects.get(pk=key)


def page_of(event):
    return f"{EVENTS}{event.pk}/change/"


def act(client, action, *events):
    chosen = {ACTION_CHECKBOX_NAME: [event.pk for event in events]}
    return client.post(EVENTS, {"action": action, **chosen}, follow=True)


class TestList:
    def test_it_shows_what_became_of_each_and_links_the_row(self, admin_client, row, failed):
        submit_event(row, "melt", delay=60, by="importer")

        page = admin_client.get(EVENTS)

        assert cells(page, "trigger") == ["melt", "call"]
        assert cells(page, "shown_state") == ["pending", "failed"]
        assert f'<a href="/lives/tests/account/{row.pk}/change/">' in page.text
        assert cells(page, "by") == ["importer", "-"]
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert" in page.text
        assert inline_parts(page) == []

    def test_filters(self, admin_client, row, failed):
        other = submit_event(Purchase.objects.create(state="held"), "remark")

        assert keys(admin_client.get(EVENTS, {"state": "failed"})) == [failed.pk]
        assert keys(admin_client.get(EVENTS, {"model": "tests.Purchase"})) == [other]
        page = admin_client.get(EVENTS, {"trigger": "call"})
        assert keys(page) == [failed.pk]
        assert {"tests.Account", "tests.Purchase"} <= set(choices(page, "model"))
        assert "tests.Noop" not in choices(page, "model")
        assert {"melt", "remark"} <= set(choices(page, "trigger"))

    def test_search_by_the_row_s_key(self, admin_client, row):
        key = submit_event(row, "melt")
        submit_event(Account.objects.create(), "melt")

        assert keys(admin_client.get(EVENTS, {"q": str(row.pk)})) == [key]
        assert keys(admin_client.get(EVENTS, {"q": "a/b"})) == []

    @pytest.mark.parametrize("number", [1, 50])
    def test_as_many_queries_for_one_event_as_for_many(
        self, admin_client, row, django_assert_num_queries, number
    ):
        for _ in range(number):
            submit_event(row, "melt")

        # The session, the user, the count and the events.
        with django_assert_num_queries(6):
            admin_client.get(EVENTS)


class TestPage:
    def test_it_shows_context_and_failure_escaped(self, admin_client, failed):
        Event.objects.filter(pk=failed.pk).update(context={"note": HOSTILE})

        page = admin_client.get(page_of(failed))

        assert "&quot;note&quot;: &quot;&lt;script&gt;" in page.text
        assert "ValueError" in page.text
        assert "<script>alert" not in page.text
        assert "<b>bold" not in page.text

    def test_it_says_what_the_event_waits_for(self, admin_client, row):
        key = row.state_submit("melt")
        run_until_idle(Account)

        page = admin_client.get(page_of(Event.objects.get(pk=key)))

        assert "it is not taken in the state open" in page.text

    def test_nothing_can_be_changed_or_deleted(self, admin_client, failed):
        assert admin_client.post(page_of(failed), {"trigger": "other"}).status_code == 403
        assert admin_client.post(f"{EVENTS}{failed.pk}/delete/", {"post": "yes"}).status_code == 403
        assert admin_client.post(f"{EVENTS}{failed.pk}/state/retry/").status_code == 403
        assert admin_client.get(f"{EVENTS}add/").status_code == 403

    def test_it_takes_the_permission_to_view_events(self, visitor, failed):
        client = visitor("tests.view_account")

        assert client.get(EVENTS).status_code == 403
        assert client.get(page_of(failed)).status_code == 403


class TestActions:
    def test_retry(self, admin_client, row, failed, monkeypatch):
        monkeypatch.setitem(ACTIONS, "fail", lambda row, event: row.entries.create(number=7))

        page = act(admin_client, "retry_events", failed)
        run_until_idle(Account)

        assert "1 event was written, 0 left out." in page.text
        assert row.entries.get().number == 7
        assert LogEntry.objects.get().object_id == str(failed.pk)

    def test_cancel(self, admin_client, row, failed):
        waiting = Event.objects.get(pk=submit_event(row, "melt"))

        page = act(admin_client, "cancel_events", waiting, failed)

        assert "1 event was written, 1 left out." in page.text
        waiting.refresh_from_db()
        assert (waiting.state, waiting.reason) == ("cancelled", "Cancelled by admin")
        failed.refresh_from_db()
        assert failed.state == "failed"

    @pytest.mark.parametrize(
        ("permission", "offered"),
        [("cancel_event", "cancel_events"), ("retry_event", "retry_events")],
    )
    def test_each_takes_a_permission_of_its_own(self, visitor, row, permission, offered):
        event = Event.objects.get(pk=submit_event(row, "rich"))
        run_until_idle(Account)
        client = visitor("django_fsmworker.view_event", f"django_fsmworker.{permission}")

        page = client.get(EVENTS)
        assert f'value="{offered}"' in page.text
        (other,) = {"cancel_events", "retry_events"} - {offered}
        before = Event.objects.values().get()
        act(client, other, event)

        assert f'value="{other}"' not in page.text
        assert Event.objects.values().get() == before

    def test_too_many_are_refused(self, admin_client, row, monkeypatch):
        monkeypatch.setattr("django_fsmworker.admin.events.MOST_AT_ONCE", 1)
        events = [Event.objects.get(pk=submit_event(row, "melt")) for _ in range(2)]

        page = act(admin_client, "cancel_events", *events)

        assert "More than 1 events are chosen" in page.text
        assert Event.objects.filter(state="pending").count() == 2


class TestOnTheRowsPage:
    def test_the_latest_are_shown_with_a_link_to_all(self, admin_client, row):
        key = row.state_submit("melt", by=HOSTILE)
        run_until_idle(Account)

        page = admin_client.get(f"/lives/tests/account/{row.pk}/change/")

        assert f'<a href="{EVENTS}{key}/change/">melt</a>' in page.text
        assert f'<a href="{EVENTS}?model=tests.Account&amp;q={row.pk}">All events</a>' in page.text
        assert "It is not taken in the state open." in page.text
        assert "<script>alert" not in page.text

    def test_not_for_those_who_may_not_see_events(self, visitor, row):
        row.state_submit("melt")

        page = visitor("tests.view_account").get(f"/lives/tests/account/{row.pk}/change/")

        assert page.status_code == 200
        assert "All events" not in page.text

    def test_nothing_where_there_are_none(self, admin_client, row):
        assert "All events" not in admin_client.get(f"/lives/tests/account/{row.pk}/change/").text
