"""An operator at work: the dashboard and rows, with a runner that really runs."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import QuerySet, Value

from django_fsmworker import clock, workers
from django_fsmworker.pauses import paused
from testapp.models import Endpoint, Order, Webhook
from tests.browser.site import DASHBOARD, badge, reloaded, section

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint.objects.create(name="shop.example")


def webhooks(endpoint: Endpoint, number: int, **columns: Any) -> list[Webhook]:
    names = (f"invoice {count}" for count in range(number))
    return Webhook.objects.bulk_create(
        Webhook(endpoint=endpoint, payload=name, **columns) for name in names
    )


def in_state(state: str) -> int:
    return Webhook.objects.filter(state=state).count()


def test_one_logs_in_and_finds_the_dashboard(operator, visits):
    page = visits.by(None)
    page.goto("/admin/")
    page.fill("#id_username", "operator")
    page.fill("#id_password", "night shift")
    page.click("input[type=submit]")

    page.click("th.model-worker a, tr.model-worker th a")

    assert page.url.endswith(DASHBOARD)
    assert "No runner is on record." in section(page, "workers").inner_text()
    assert "Nobody runs testapp.Order." in section(page, "models").inner_text()


def test_a_row_is_followed_from_new_to_its_end(operator, visits, start_runner):
    page = visits.by(operator)
    page.goto("/admin/testapp/order/add/")
    page.fill("#id_payment_id", "pay-1")
    page.click("input[name=_continue]")
    assert badge(page) == "new"

    start_runner("testapp.Order")
    reloaded(page, lambda: badge(page) == "shipped")

    assert Order.objects.get().tracking != ""
    page.goto(DASHBOARD)
    shown = section(page, "models").inner_text()
    assert "Nobody runs testapp.Order." not in shown
    assert "Nobody runs testapp.Webhook." in shown


def test_an_event_is_sent_by_its_button(operator, visits, start_runner, endpoint):
    [row] = webhooks(endpoint, 1)
    page = visits.by(operator)
    page.goto(f"/admin/testapp/webhook/{row.pk}/change/")
    assert badge(page) == "queued"
    assert page.get_by_role("button", name="Confirm").count() == 0

    start_runner("testapp.Webhook")
    reloaded(page, lambda: badge(page) == "sent, not confirmed")
    page.fill("section.fsmworker-row input[name=reason]", "they called")
    page.press("section.fsmworker-row input[name=reason]", "Enter")  # of which no button is meant
    assert page.input_value("section.fsmworker-row input[name=reason]") == "they called"
    page.get_by_role("button", name="Confirm").click()

    assert badge(page) == "confirmed"
    page.get_by_text("Timeline").click()
    assert "they called" in page.locator("details").inner_text()


def test_a_group_of_failures_is_retried(operator, visits, start_runner, endpoint, eventually):
    endpoint.behaviour = Endpoint.Behaviour.DOWN
    endpoint.save()
    webhooks(endpoint, 12)
    start_runner("testapp.Webhook")
    page = visits.by(operator)
    page.goto(DASHBOARD)
    group = page.locator("tr", has_text="ConnectionRefusedError")
    reloaded(page, lambda: group.count() == 1 and "12" in group.inner_text())

    Endpoint.objects.update(behaviour=Endpoint.Behaviour.ANSWERS)
    group.get_by_role("button", name="Retry now").click()
    asked = page.inner_text("#content")
    assert "Rows of testapp.Webhook that fail in the state signed" in asked
    assert "It applies to 12 of the 12 rows chosen." in asked
    page.fill("input[name=reason]", "it is back")
    page.get_by_role("button", name="Retry now").click()

    eventually(lambda: in_state("sent") == 12, 60)
    page.goto(DASHBOARD)
    assert section(page, "failures").count() == 0


def test_a_worker_is_suspended_and_obeys(operator, visits, start_runner, endpoint, eventually):
    start_runner("testapp.Webhook")
    page = visits.by(operator)
    page.goto(DASHBOARD)
    workers_shown = section(page, "workers")
    reloaded(page, lambda: workers_shown.get_by_role("button", name="Suspend").count() == 1)

    workers_shown.get_by_role("button", name="Suspend").click()
    reloaded(page, lambda: "suspended" in workers_shown.inner_text())
    [row] = webhooks(endpoint, 1)
    page.reload()
    assert "queued" in section(page, "models").inner_text()
    resumed = clock.now()
    workers_shown.get_by_role("button", name="Resume").click()
    eventually(lambda: in_state("sent") == 1, 60)

    assert row.state_log.earliest("at").at > resumed
    [worker] = workers.all()
    assert worker.ordered_by == "operator"


def test_a_pause_is_set_and_lifted(operator, visits, start_runner, endpoint, eventually):
    page = visits.by(operator)
    page.goto(DASHBOARD)
    section(page, "models").locator("tr", has_text="testapp.Webhook").get_by_text("pause").click()
    assert page.input_value("select[name=what]") == "testapp.Webhook"
    page.select_option("select[name=lasts]", label="60 min")
    page.fill("input[name=reason]", "snow")
    page.get_by_role("button", name="Pause").click()
    assert "snow" in section(page, "pauses").inner_text()
    [row] = webhooks(endpoint, 1)
    start_runner("testapp.Webhook")
    reloaded(page, lambda: "ready" in section(page, "workers").inner_text())
    lifted = clock.now()

    section(page, "pauses").get_by_role("button", name="Lift").click()

    eventually(lambda: in_state("sent") == 1, 60)
    assert row.state_log.earliest("at").at > lifted
    assert paused() == []
    assert "Nothing is paused." in section(page, "pauses").inner_text()


def test_ten_thousand_rows_are_moved_in_bulk_while_one_watches(
    operator, visits, start_runner, endpoint
):
    start_runner("testapp.Webhook")
    webhooks(endpoint, 10_000, state="sent")
    # Past its own queryset, which leaves the engine's columns alone.
    QuerySet(Webhook).update(state=Value("signed"), state_next=None, state_failures=5)
    webhooks(endpoint, 1, state="held")
    page = visits.by(operator)
    page.goto("/admin/testapp/webhook/?due=parked")
    page.check("#action-toggle")
    page.locator(".actions .question a").click()
    page.select_option("select[name=action]", label="Move to a state")
    page.locator(".actions button[name=index]").click()
    page.select_option("select[name=subject]", label="given up")
    page.get_by_role("button", name="Go on").click()
    assert "It applies to 10000 of the 10000 rows chosen." in page.inner_text("#content")
    page.fill("input[name=reason]", "the shop is closed")
    page.get_by_role("button", name="Move").click()

    panel = page.locator("section[aria-labelledby=fsmworker-bulk-title]")
    reloaded(page, lambda: "done" in panel.inner_text(), 90)

    assert "10000 of 10000 rows were looked at." in panel.inner_text()
    assert "10000 were written, 0 left out." in panel.inner_text()
    assert (in_state("given_up"), in_state("held")) == (10_000, 1)
    page.goto(DASHBOARD)
    assert section(page, "bulk").count() == 0
