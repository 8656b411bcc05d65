"""Who may only look, or not even that."""

from __future__ import annotations

import pytest

from django_fsmworker import clock
from django_fsmworker.models import FailureRecord
from django_fsmworker.pauses import pause, paused
from testapp.models import Endpoint, Webhook
from tests.browser.site import DASHBOARD, badge, section, visitor

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

LOOKS = (
    "django_fsmworker.view_worker",
    "django_fsmworker.view_failurerecord",
    "testapp.view_webhook",
)


@pytest.fixture
def failing() -> Webhook:
    endpoint = Endpoint.objects.create(name="tea.example")
    row = Webhook.objects.create(endpoint=endpoint, payload="tea")
    Webhook.objects.filter(pk=row.pk).park("until the kettle is mended")
    now = clock.now()
    FailureRecord.objects.update(count=3, error="builtins.OSError", first_seen=now, last_seen=now)
    return row


def test_who_may_look_sees_no_buttons_and_is_refused(visits, failing):
    pause(Webhook, reason="snow")
    page = visits.by(visitor(*LOOKS))
    page.goto(DASHBOARD)
    assert "builtins.OSError" in section(page, "failures").inner_text()
    assert "snow" in section(page, "pauses").inner_text()
    assert page.locator("#content form[method=post] button").count() == 0

    page.goto(f"/admin/testapp/webhook/{failing.pk}/change/")
    assert badge(page) == "queued"
    assert page.locator("section.fsmworker-row button").count() == 0
    group = {"model": "testapp.Webhook", "state": "queued", "error": "builtins.OSError"}
    token = page.locator("input[name=csrfmiddlewaretoken]").first.get_attribute("value")
    for address, data in (
        (f"{DASHBOARD}failures/retry/", group),
        (f"{DASHBOARD}pauses/lift/", {"pause": "1", "database": "default"}),
        (f"{DASHBOARD}stop/", {"worker": "any"}),
        (f"/admin/testapp/webhook/{failing.pk}/state/unpark/", {}),
    ):
        form = {**data, "csrfmiddlewaretoken": token, "confirmed": "1"}
        answer = page.request.post(address, form=form)
        assert answer.status == 403
        assert "Permission" in answer.text() or "403" in answer.text()
    assert Webhook.objects.parked().count() == 1
    assert len(paused()) == 1


def test_a_form_without_its_token_is_refused(visits, operator, failing):
    page = visits.by(operator)

    answer = page.request.post(f"/admin/testapp/webhook/{failing.pk}/state/unpark/", form={})

    assert answer.status == 403
    assert Webhook.objects.parked().count() == 1


def test_who_may_not_even_look_sees_nothing(visits, failing):
    page = visits.by(visitor())

    page.goto("/admin/")
    assert page.locator("a[href*=stator], a[href*=worker], a[href*=webhook]").count() == 0
    assert page.request.get(DASHBOARD).status == 403
    assert page.request.get("/admin/testapp/webhook/").status == 403
