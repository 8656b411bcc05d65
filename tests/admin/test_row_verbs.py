"""The panel on top of a row's page: why, what can be done, and the way that the row took."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django import forms
from django.contrib.admin.models import LogEntry
from django.contrib.admin.widgets import AdminTextInputWidget
from django.test import Client

from django_fsmworker import clock
from django_fsmworker.models import TransitionRecord
from django_fsmworker.models.keys import log_digest
from testapp.models import Endpoint, TradeOrder, Webhook
from tests.admin.pages import inline_parts
from tests.app.forms import PayForm
from tests.app.models import Account, BasicModel, Purchase

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]


def page_of(row, site="lives"):
    return f"/{site}/{row._meta.app_label}/{row._meta.model_name}/{row.pk}/change/"


def verb_of(row, verb, site="lives"):
    return page_of(row, site).replace("/change/", f"/state/{verb}/")


def buttons(page):
    """The last words of each button's address; whether it can be pressed."""
    found = re.findall(r'formaction="[^"]*/state/([^"]*)/"( disabled)?', page.text)
    return {address: not disabled for address, disabled in found}


def said(answer):
    return [str(each) for each in answer.context["messages"]]


class TestPanel:
    def test_says_why_the_row_does_not_move(self, admin_client, make_row):
        row = make_row(state_next=clock.now() + timedelta(minutes=9))

        page = admin_client.get(page_of(row))

        for reason in row.state_explain().reasons:
            assert reason.sentence.split(":")[0][:20] in page.text
        assert inline_parts(page) == []

    def test_offers_what_can_be_done_now(self, admin_client, make_row):
        waiting = make_row(state_next=clock.now() + timedelta(minutes=9))

        found = buttons(admin_client.get(page_of(waiting)))

        assert {name: found[name] for name in ("retry", "park", "unpark", "cancel")} == {
            **{"retry": True, "park": True, "unpark": False, "cancel": False}
        }
        assert found["move/done"]

    def test_says_why_something_cannot_be_done(self, admin_client, make_row):
        text = admin_client.get(page_of(make_row(state="done", state_next=None))).text

        assert "This cannot be done in the present state." in text
        assert "It is not parked." in text

    def test_shows_a_row_in_an_unknown_state(self, admin_client, make_row):
        page = admin_client.get(page_of(make_row(state="<old>", state_next=None)))

        assert page.status_code == 200
        assert "<old>" not in page.text

    def test_events_with_their_refusal(self, admin_client):
        row = Account.objects.create()

        found = buttons(admin_client.get(page_of(row)))

        assert found["send/freeze"]
        assert not found["send/rich"]

    def test_what_the_runner_does_is_not_called_as_an_event_is(self, admin_client):
        order = TradeOrder.objects.create(customer="mary", quantity=1, price=1)

        text = admin_client.get(f"/admin/testapp/tradeorder/{order.pk}/change/").text

        labels = re.findall(r'formaction="[^"]*/state/[^"]*"[^>]*>([^<]*)<', text)
        assert labels.count("Cancel") == 1
        assert "Cancel what runs" in labels

    def test_a_form_is_asked_for_under_the_events_label(self, admin_client):
        order = TradeOrder.objects.create(customer="mary", quantity=1, price=1)

        page = admin_client.post(f"/admin/testapp/tradeorder/{order.pk}/state/send/pay/")

        assert (page.context["title"], page.context["label"]) == ("Pay", "Pay")

    def test_a_new_row_has_none(self, admin_client):
        assert "fsmworker-row" not in admin_client.get("/lives/tests/basicmodel/add/").text


class TestTimeline:
    def test_comes_from_the_log(self, admin_client):
        row = Account.objects.create()
        row.state_send("freeze", by="Mary", reason="<too> odd")

        text = admin_client.get(page_of(row)).text

        assert "<td>open</td><td>frozen</td>" in text
        assert "event freeze: &lt;too&gt; odd" in text
        assert ">Mary</td>" in text

    def test_it_calls_states_by_their_labels_and_is_exact_to_the_second(self, admin_client):
        row = Webhook.objects.create(endpoint=Endpoint.objects.create(name="a"))
        at = datetime(2026, 11, 30, 3, 4, 5, tzinfo=UTC)
        TransitionRecord.objects.create(
            model="testapp.Webhook", row=str(row.pk), digest=log_digest(str(row.pk)), at=at,
            source="signed", target="sent", duration=timedelta(seconds=0.25),
        )  # fmt: skip

        text = admin_client.get(f"/admin/testapp/webhook/{row.pk}/change/").text

        assert "<td>Nov. 30, 2026, 03:04:05</td><td>signed</td><td>sent, not confirmed</td>" in text
        assert "<td>250 ms</td>" in text

    def test_it_says_how_many_attempts_a_move_took(self, admin_client):
        row = Account.objects.create()
        TransitionRecord.objects.create(
            model="tests.Account", row=str(row.pk), digest=log_digest(str(row.pk)), source="open",
            target="checking", cause="check", worker="host:1", attempt=7, at=clock.now(),
        )  # fmt: skip

        assert ">host:1</td><td>7</td>" in admin_client.get(page_of(row)).text

    def test_else_from_the_history(self, admin_client):
        row = Purchase.objects.create()
        first, target = row.state, next(iter(row.state_graph.states))
        row.state_transition(target)

        text = admin_client.get(page_of(row)).text

        assert f"<td></td><td>{first}</td>" in text
        assert f"<td>{first}</td><td>{target}</td>" in text

    def test_without_either_there_is_none(self, admin_client, make_row):
        assert "Timeline" not in admin_client.get(page_of(make_row())).text


class TestVerbs:
    def test_retry(self, admin_client, make_row):
        row = make_row(state_next=None, state_failures=5)

        answer = admin_client.post(verb_of(row, "retry"), {"reason": "it is back"}, follow=True)

        row.refresh_from_db()
        assert answer.redirect_chain == [(page_of(row), 302)]
        assert said(answer) == ["Done: retry."]
        assert (row.state_next is not None, row.state_failures) == (True, 0)
        assert LogEntry.objects.get().change_message == "retry: it is back"

    def test_park_and_unpark(self, admin_client, make_row):
        row = make_row()

        admin_client.post(verb_of(row, "park"), {"reason": "not today"})
        failure = row.failure
        admin_client.post(verb_of(row, "unpark"))

        row.refresh_from_db()
        assert (failure.parked_by, failure.parked_reason) == ("admin", "not today")
        assert (row.state_next is not None, row.state_failures) == (True, 0)

    def test_to_park_takes_a_reason(self, admin_client, make_row):
        row = make_row()

        answer = admin_client.post(verb_of(row, "park"), {"reason": " "}, follow=True)

        row.refresh_from_db()
        assert said(answer) == ["Give a reason to park it for: it is put on record."]
        assert row.state_failures == 0

    def test_cancel_where_nothing_runs(self, admin_client, make_row):
        answer = admin_client.post(verb_of(make_row(), "cancel"), follow=True)

        assert said(answer) == ["Nothing had to be done."]
        assert not LogEntry.objects.exists()

    def test_cancel_what_runs(self, admin_client, make_row):
        row = make_row(state_claim=7, state_lease=clock.now() + timedelta(minutes=1))

        answer = admin_client.post(verb_of(row, "cancel"), follow=True)

        assert said(answer) == ["Done: cancel."]
        row.refresh_from_db()
        assert row.state_claim != 7

    def test_a_declared_move(self, admin_client, make_row):
        row = make_row()

        admin_client.post(verb_of(row, "move/done"))

        row.refresh_from_db()
        assert row.state == "done"

    @pytest.mark.parametrize(
        ("address", "words"),
        [
            ("move/deleted", "This cannot be done in the present state."),
            ("send/nothing", "There is no such action."),
        ],
    )
    def test_one_that_is_not_declared_is_refused(self, admin_client, make_row, address, words):
        row = make_row()

        answer = admin_client.post(verb_of(row, address), follow=True)

        row.refresh_from_db()
        assert (said(answer), row.state) == ([words], "new")

    def test_a_state_that_is_not_declared(self, admin_client, make_row):
        answer = admin_client.post(verb_of(make_row(), "move/nowhere"), follow=True)

        (words,) = said(answer)
        assert "nowhere" in words

    def test_an_event(self, admin_client):
        row = Account.objects.create()

        admin_client.post(verb_of(row, "send/freeze"), {"reason": "odd"})

        entry = row.state_log.get()
        assert (entry.target, entry.by, entry.reason) == ("frozen", "admin", "odd")

    def test_an_event_with_a_form(self, admin_client):
        row = Purchase.objects.create(state="held", amount=7)
        pay = verb_of(row, "send/pay")

        assert buttons(admin_client.get(page_of(row)))["send/pay"]
        asked = admin_client.post(pay, {"reason": "by card"})
        wrong = admin_client.post(pay, {"confirmed": "1", "event-amount": "0"})
        answer = admin_client.post(pay, {"confirmed": "1", "event-amount": "9"})

        row.refresh_from_db()
        assert 'value="by card"' in asked.text
        assert 'name="event-amount"' in asked.text
        assert "greater than or equal to 1" in wrong.text
        assert inline_parts(asked) == []
        assert (answer.status_code, row.state, row.paid) == (302, "approved", 9)

    def test_a_field_may_be_called_as_one_of_the_page(self, admin_client, monkeypatch):
        comment = forms.CharField(widget=AdminTextInputWidget({"class": "own"}))
        monkeypatch.setattr(AdminTextInputWidget, "media", forms.Media(js=["own.js"]))
        monkeypatch.setitem(PayForm.base_fields, "reason", comment)
        row = Purchase.objects.create(state="held")
        pay = verb_of(row, "send/pay")
        filled = {"event-amount": "9", "event-reason": "of the form", "reason": "of the page"}

        asked = admin_client.post(pay)
        answer = admin_client.post(pay, {"confirmed": "1", **filled})

        assert 'name="event-reason"' in asked.text
        assert "own.js" in asked.text
        assert answer.status_code == 302
        assert LogEntry.objects.get().change_message == "send pay: of the page"

    def test_what_an_action_raises_is_named_and_logged(self, admin_client, caplog):
        row = Purchase.objects.create(state="approved", note="before")

        answer = admin_client.post(verb_of(row, "send/act"), follow=True)

        row.refresh_from_db()
        assert said(answer) == ["send act failed: KeyError: 'call'"]
        assert row.state == "approved"
        assert [record.action for record in caplog.records if record.exc_info] == ["button_failed"]
        assert not LogEntry.objects.exists()

    def test_a_row_that_is_gone_leads_back(self, admin_client):
        assert admin_client.post("/lives/tests/basicmodel/77/state/retry/").status_code == 302

    def test_a_row_of_another_database(self, admin_client, make_row):
        row = make_row(using="other", state_next=None, state_failures=5)

        admin_client.post(verb_of(row, "retry", "elsewhere"))

        assert BasicModel.objects.using("other").get().state_failures == 0


class TestPermissions:
    def test_who_may_only_view_sees_no_buttons_and_is_refused(self, visitor, make_row):
        row = make_row()
        client = visitor("tests.view_basicmodel", "django_fsmworker.retry_row")

        assert buttons(client.get(page_of(row))) == {}
        assert client.post(verb_of(row, "retry")).status_code == 403

    def test_each_verb_has_its_own(self, visitor, make_row):
        row = make_row()
        client = visitor("tests.change_basicmodel", "django_fsmworker.park_row")

        assert set(buttons(client.get(page_of(row)))) == {"park", "unpark"}
        assert client.post(verb_of(row, "retry")).status_code == 403
        assert client.post(verb_of(row, "move/done")).status_code == 403
        assert client.post(verb_of(row, "park"), {"reason": "so"}).status_code == 302

    def test_an_unknown_verb_is_refused(self, admin_client, make_row):
        assert admin_client.post(verb_of(make_row(), "explode")).status_code == 403

    def test_pages_that_only_show(self, admin_client, make_row):
        row = make_row()

        page = admin_client.get(page_of(row, "shown"))

        assert buttons(page) == {}
        assert admin_client.post(verb_of(row, "retry", "shown")).status_code == 403

    def test_a_get_does_nothing(self, admin_client, make_row):
        assert admin_client.get(verb_of(make_row(), "retry")).status_code == 405

    def test_a_post_takes_its_token(self, admin_user, make_row):
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin_user)

        assert client.post(verb_of(make_row(), "retry")).status_code == 403
