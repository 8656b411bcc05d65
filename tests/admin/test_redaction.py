"""The setting ADMIN_REDACT: each place of the admin that shows a text which may quote data."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.utils.safestring import mark_safe

from django_fsmworker.bulk.starting import start
from django_fsmworker.events import submit_event
from django_fsmworker.models import BulkAction, Event
from django_fsmworker.models.limits import Pause
from django_fsmworker.pauses import pause
from tests.admin.pages import cells
from tests.admin.test_dashboard import worker
from tests.app.models import Account, BasicModel, Purchase

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

SECRET = "ann@example.com"
FAILURES = "/lives/django_fsmworker/failurerecord/"
DASHBOARD = "/lives/django_fsmworker/worker/stator/"


def by_kind(kind: str, text: str, record: Any) -> str:
    name = type(record).__name__
    return text.replace(SECRET, f"[{kind} of {name}]")


def nothing_of_it(kind: str, text: str, record: Any) -> str:
    return f"({kind})"


def as_html(kind: str, text: str, record: Any) -> str:
    return mark_safe("<b>bold</b>")  # noqa: S308 (that is what is tested)


def broken(kind: str, text: str, record: Any) -> str:
    raise LookupError(kind)


def forgetful(kind: str, text: str, record: Any) -> None:
    return None


@pytest.fixture(autouse=True)
def use(settings):
    def named(name: str) -> None:
        settings.FSMWORKER = {"ADMIN_REDACT": f"tests.admin.test_redaction.{name}"}

    named("by_kind")
    return named


def page_of(thing):
    return f"/lives/{thing._meta.app_label}/{thing._meta.model_name}/{thing.pk}/change/"


def shown(client, address):
    """The page, of which nothing shows what is secret."""
    page = client.get(address)
    assert page.status_code == 200
    assert SECRET not in page.text
    return page.text


class TestPlaces:
    def test_message_and_traceback_of_a_failure_record(self, admin_client, make_failure):
        record = make_failure(message=f"no {SECRET}", traceback=f"at {SECRET}")

        text = shown(admin_client, page_of(record))

        assert "no [message of FailureRecord]" in text
        assert "<pre>at [traceback of FailureRecord]</pre>" in text

    def test_message_and_traceback_on_a_rows_page(self, admin_client, make_row, make_failure):
        row = make_row(state_next=None, state_failures=5)
        make_failure(row, message=f"no {SECRET}", traceback=f"at {SECRET}")

        text = shown(admin_client, page_of(row))

        assert "no [message of FailureRecord]" in text
        assert "<pre>at [traceback of FailureRecord]</pre>" in text

    def test_the_explanation_on_a_rows_page(self, admin_client, make_row, make_failure):
        row = make_row(state_next=None, state_failures=5)
        make_failure(row, message=f"no {SECRET}")

        text = shown(admin_client, page_of(row))

        assert "is not tried again: builtins.ValueError: no [explanation of BasicModel]." in text

    def test_a_key_in_the_list_of_records(self, admin_client, make_failure):
        make_failure(model="gone.Model", row=SECRET)

        page = admin_client.get(FAILURES)

        assert cells(page, "linked_row") == ["[label of FailureRecord]"]

    def test_context_and_reason_of_an_event(self, admin_client):
        key = submit_event(Account.objects.create(), "melt", {"to": SECRET}, delay=60)
        Event._base_manager.filter(pk=key).update(reason=f"for {SECRET}")
        event = Event.objects.get(pk=key)

        text = shown(admin_client, page_of(event))
        listed = admin_client.get("/lives/django_fsmworker/event/")

        assert "[context of Event]" in text
        assert cells(listed, "reason") == ["for [reason of Event]"]

    def test_the_reason_of_an_event_on_the_rows_page(self, admin_client):
        row = Account.objects.create()
        key = submit_event(row, "melt", delay=60)
        Event._base_manager.filter(pk=key).update(reason=f"for {SECRET}")

        assert "for [reason of Event]" in shown(admin_client, page_of(row))

    def test_the_reason_of_a_transition(self, admin_client):
        row = Account.objects.create()
        row.state_send("freeze", reason=f"for {SECRET}")

        text = shown(admin_client, page_of(row))
        listed = admin_client.get("/lives/django_fsmworker/transitionrecord/")

        assert "for [reason of TransitionRecord]" in text
        assert cells(listed, "reason") == ["for [reason of TransitionRecord]"]

    def test_what_a_button_raises(self, admin_client, use):
        use("nothing_of_it")
        row = Purchase.objects.create(state="approved")

        address = page_of(row).replace("/change/", "/state/send/act/")
        answer = admin_client.post(address, follow=True)

        assert "Send act failed: KeyError: (message)" in answer.text

    def test_what_the_page_that_asks_calls_a_row(self, admin_client, use):
        use("nothing_of_it")
        row = Purchase.objects.create(state="held")

        page = admin_client.post(page_of(row).replace("/change/", "/state/send/pay/"))

        assert page.context["subtitle"] == "(label)"

    def test_reason_and_key_of_a_pause_on_the_dashboard(self, admin_client):
        [held] = pause(BasicModel, "new", reason=f"for {SECRET}", using="default")
        Pause._base_manager.filter(pk=held.pk).update(key=SECRET)

        text = shown(admin_client, DASHBOARD)
        posted = {"database": "default", "pause": held.pk}
        lifted = admin_client.post(f"{DASHBOARD}pauses/lift/", posted, follow=True)

        assert "for [reason of Pause]" in text
        assert '<td data-label="key">[label of Pause]</td>' in text
        assert "[label of Pause]." in lifted.text

    def test_an_orders_reason_and_stacks_of_a_worker(self, admin_client):
        told = worker(order_reason=f"for {SECRET}", stacks=f"at {SECRET}")

        text = shown(admin_client, page_of(told))

        assert "for [reason of Worker]" in text
        assert "at [traceback of Worker]" in text

    def test_the_page_of_a_bulk_action(self, admin_client, make_row):
        start("retry", BasicModel.objects.all(), reason=f"for {SECRET}", described=f"q={SECRET}")
        BulkAction._base_manager.update(
            state="failed",
            note=f"no {SECRET}",
            context={"to": SECRET},
            skipped={"gone": [1, [SECRET]]},
        )
        action = BulkAction.objects.get()

        text = shown(admin_client, page_of(action))

        assert "for [reason of BulkAction]" in text
        assert "no [message of BulkAction]" in text
        assert "q=[context of BulkAction]" in text
        assert "{\n  &quot;to&quot;: &quot;[context of BulkAction]&quot;\n}" in text
        assert "[label of BulkAction]" in text

    def test_why_a_bulk_action_waits(self, admin_client, use):
        use("nothing_of_it")
        start("retry", BasicModel.objects.all())
        action = BulkAction.objects.get()

        assert "<li>(explanation)" in admin_client.get(page_of(action)).text


class TestTheFunction:
    def test_what_it_returns_is_escaped_even_if_it_is_marked_as_safe(
        self, admin_client, make_failure, use
    ):
        use("as_html")
        record = make_failure()

        text = admin_client.get(page_of(record)).text

        assert "&lt;b&gt;bold" in text
        assert "<b>bold" not in text

    @pytest.mark.parametrize("name", ["broken", "forgetful", "missing"])
    def test_if_it_fails_nothing_of_the_text_is_shown(
        self, admin_client, make_failure, use, caplog, name
    ):
        use(name)
        record = make_failure(message=f"no {SECRET}", traceback="")

        text = shown(admin_client, page_of(record))

        assert "(not shown: what redacts it has failed)" in text
        actions = {each.action for each in caplog.records if each.exc_info}
        assert actions == {"redact_failed"}

    def test_one_that_is_missing_is_reported_by_check(self, use):
        use("missing")

        with pytest.raises(SystemCheckError, match="ADMIN_REDACT names tests.admin.test_redaction"):
            call_command("check")

    def test_what_is_stored_stays(self, admin_client, make_failure):
        record = make_failure(message=SECRET)

        admin_client.get(FAILURES)
        admin_client.get(page_of(record))

        record.refresh_from_db()
        assert record.message == SECRET

    def test_the_list_takes_no_more_queries(
        self, admin_client, make_failure, django_assert_num_queries
    ):
        for number in range(20):
            make_failure(row=str(number), message=SECRET)

        with django_assert_num_queries(4):
            admin_client.get(FAILURES)


class TestGuessing:
    def test_a_search_does_not_find_what_is_redacted(self, admin_client, make_failure):
        make_failure(message=SECRET)

        assert cells(admin_client.get(FAILURES, {"q": "ann@"}), "model") == []
        assert cells(admin_client.get(FAILURES, {"q": "ValueError"}), "model") != []

    def test_nor_does_a_filter_in_the_address(self, admin_client, make_failure):
        make_failure(message=SECRET)

        assert admin_client.get(FAILURES, {"message__contains": "ann@"}).status_code == 400

    def test_without_the_setting_both_do(self, admin_client, make_failure, settings):
        settings.FSMWORKER = {}
        make_failure(message=SECRET)

        assert cells(admin_client.get(FAILURES, {"q": "ann@"}), "model") != []
        assert cells(admin_client.get(FAILURES, {"message__contains": "ann@"}), "model") != []
