"""Multi-table children, proxies and composite keys in the admin."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured

from django_fsmworker import clock
from django_fsmworker.admin import StatorModelAdmin
from django_fsmworker.admin.dashboard import shown_lives
from django_fsmworker.models import FailureRecord
from tests.admin.pages import cells
from tests.app.models import BigKind, ChildKind, CompositeKind, InvoiceKind, ParentKind, ProxyKind

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

KINDS = pytest.mark.parametrize("model", [ParentKind, ChildKind, InvoiceKind, ProxyKind])
FAILURES = "/kinds/django_fsmworker/failurerecord/"


def list_of(model):
    return f"/kinds/tests/{model._meta.model_name}/"


def page_of(row):
    return f"{list_of(type(row))}{row.pk}/change/"


@pytest.fixture
def failing(model):
    row = model.objects.create(wish="fail")
    row.state_transition_check()
    return row


@KINDS
class TestKinds:
    def test_the_list_shows_the_state_of_the_row(self, admin_client, failing, model):
        page = admin_client.get(list_of(model))

        assert cells(page, "shown_state") == ["failed"]
        assert page.context["cl"].result_count == 1

    def test_the_page_says_why_it_failed(self, admin_client, failing):
        page = admin_client.get(page_of(failing))

        assert "fail it shall" in page.text

    def test_saving_the_page_leaves_the_state(self, admin_client, failing, model):
        form = admin_client.get(page_of(failing)).context["adminform"].form

        answer = admin_client.post(page_of(failing), {**form.initial, "wish": "stay"})

        failing.refresh_from_db()
        assert answer.status_code == 302
        assert (failing.state, failing.wish) == ("failed", "stay")


def test_a_record_leads_to_the_row_that_has_the_state(admin_client):
    row = ChildKind.objects.create(wish="fail")
    row.state_transition_check()

    page = admin_client.get(FAILURES)

    assert f'<a href="/kinds/tests/parentkind/{row.parentkind_ptr_id}/change/">' in page.text


def test_a_proxy_stands_for_its_model(admin_client):
    row = BigKind.objects.create(wish="fail", state="asked")
    record = {"model": "tests.BigKind", "row": str(row.pk), "state": "asked", "error": "KeyError"}
    FailureRecord.objects.create(**record, first_seen=clock.now(), last_seen=clock.now())
    dashboard = "/proxies/django_fsmworker/worker/stator/"

    page = admin_client.get(dashboard)
    posted = {**record, "confirmed": "1", "reason": "it may rest"}
    admin_client.post(f"{dashboard}failures/park/", posted)
    records = admin_client.get("/proxies/django_fsmworker/failurerecord/")

    assert "Nobody runs tests.ProxyKind." in page.text
    assert 'href="/proxies/tests/proxykind/?state=asked"' in page.text
    assert BigKind.objects.get().state_failures < 0
    assert f'<a href="/proxies/tests/proxykind/{row.pk}/change/">' in records.text


def test_of_a_model_and_its_proxy_the_dashboard_has_the_model(rf, admin_user):
    request = rf.get("/")
    request.user = admin_user
    site = admin.AdminSite()
    site.register([ProxyKind, BigKind], StatorModelAdmin)

    assert [model for model, _ in shown_lives(site, request)] == [BigKind]


def test_a_composite_key_has_records_but_no_page(admin_client):
    CompositeKind.objects.create(pk=(7, "a"), wish="fail").state_transition_check()

    page = admin_client.get(FAILURES)

    assert FailureRecord.objects.get().row == '[7, "a"]'
    assert cells(page, "linked_row") == ["[7, &quot;a&quot;]"]
    with pytest.raises(ImproperlyConfigured, match="composite primary key"):
        admin.AdminSite().register(CompositeKind, StatorModelAdmin)
