"""The pages of the admin under django-unfold."""

from __future__ import annotations

import pytest
from django.contrib.admin import AdminSite

from django_fsmworker import clock
from django_fsmworker.admin import FailureRecordAdmin
from django_fsmworker.contrib.unfold import RECORDS, register_records
from django_fsmworker.models import FailureRecord, Worker
from django_fsmworker.models.keys import row_digest
from django_fsmworker.pauses import paused
from testapp.models import Endpoint, Webhook

pytestmark = [
    pytest.mark.django_db(databases=["default", "other"]),
    # django-unfold has not followed Django 6.1 in this yet.
    pytest.mark.filterwarnings("ignore:Overriding get_action"),
]

SET = "django_fsmworker/worker/stator/pauses/set/"
DASHBOARD = "/unfolded/django_fsmworker/worker/stator/"
STYLE = "django_fsmworker/unfold.css"


@pytest.fixture(autouse=True)
def unfold(settings):
    settings.INSTALLED_APPS = ["unfold", *settings.INSTALLED_APPS]
    settings.ROOT_URLCONF = "tests.third_party.unfolded"


@pytest.fixture
def failing():
    endpoint = Endpoint.objects.create(name="tea.example")
    row = Webhook.objects.create(endpoint=endpoint, payload="tea")
    now = clock.now()
    Webhook.objects.filter(pk=row.pk).update(state_failures=3, state_next=None)
    FailureRecord.objects.create(
        model="testapp.Webhook", row=str(row.pk), digest=row_digest(str(row.pk)), state="queued",
        error="builtins.OSError", message="no tea", count=3, first_seen=now, last_seen=now,
    )  # fmt: skip
    return row


def test_a_list(admin_client, failing):
    page = admin_client.get("/unfolded/testapp/webhook/")

    assert "fsmworker-badge fsmworker-parked" in page.text
    assert "queued (1)" in page.text


def test_a_rows_page_with_its_buttons(admin_client, failing):
    address = f"/unfolded/testapp/webhook/{failing.pk}/change/"
    page = admin_client.get(address)
    assert "unfold/" in page.text
    assert "no tea" in page.text
    assert f"/unfolded/testapp/webhook/{failing.pk}/state/unpark/" in page.text

    admin_client.post(f"/unfolded/testapp/webhook/{failing.pk}/state/unpark/")

    assert not Webhook.objects.parked().exists()


def test_the_dashboard_and_a_group_of_failures(admin_client, failing):
    assert "builtins.OSError" in admin_client.get(DASHBOARD).text

    group = {"model": "testapp.Webhook", "state": "queued", "error": "builtins.OSError"}
    page = admin_client.post(f"{DASHBOARD}failures/retry/", group)
    assert "Rows of testapp.Webhook that fail in the state queued" in page.text
    admin_client.post(f"{DASHBOARD}failures/retry/", {**group, "confirmed": "1"})

    assert not Webhook.objects.failing().exists()


def test_an_action_of_the_list_asks_first(admin_client, failing):
    chosen = {"action": "state_unpark_rows", "_selected_action": [failing.pk], "index": "0"}

    page = admin_client.post("/unfolded/testapp/webhook/", chosen)

    assert "It applies to 1 of the 1 rows chosen." in page.text


@pytest.mark.parametrize("record", RECORDS, ids=lambda each: each.__name__)
def test_records(admin_client, failing, record):
    Worker.objects.all().delete()

    page = admin_client.get(f"/unfolded/django_fsmworker/{record._meta.model_name}/?o=1")

    assert page.status_code == 200
    assert STYLE in page.text


@pytest.mark.parametrize("address", ["testapp/webhook/", "testapp/webhook/graph/", "{row}", SET])
def test_the_pages_have_its_colours(admin_client, failing, address):
    address = address.format(row=f"testapp/webhook/{failing.pk}/change/")

    assert STYLE in admin_client.get(f"/unfolded/{address}").text


def test_a_pause_is_set(admin_client):
    admin_client.post(f"/unfolded/{SET}", {"what": "testapp.Webhook", "reason": "snow"})

    assert [(each.model, each.reason) for each in paused()] == [("testapp.Webhook", "snow")]


def test_records_that_a_site_has_get_these_classes():
    site = AdminSite("plain")
    site.register(FailureRecord, FailureRecordAdmin)

    register_records(site)

    assert {type(site.get_model_admin(each)) for each in RECORDS} == set(RECORDS.values())
    assert site.get_model_admin(FailureRecord).check() == []
