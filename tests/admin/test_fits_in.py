"""What Django's admin has besides: rows edited in the list, inlines, keys to type."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import override_settings
from django.urls import path

from django_fsmworker.admin import StatorModelAdmin
from testapp.models import Endpoint, Webhook

pytestmark = [pytest.mark.once, pytest.mark.django_db]


class EditableWebhooks(StatorModelAdmin):
    list_display = ("__str__", "payload", "endpoint")
    list_editable = ("payload",)
    raw_id_fields = ("endpoint",)


class Webhooks(admin.TabularInline):  # type: ignore[type-arg]
    model = Webhook
    extra = 0


class Endpoints(admin.ModelAdmin):  # type: ignore[type-arg]
    inlines = (Webhooks,)


site = admin.AdminSite("fitting")
site.register(Webhook, EditableWebhooks)
site.register(Endpoint, Endpoints)
urlpatterns = [path("fitting/", site.urls)]
LIST = "/fitting/testapp/webhook/"


@pytest.fixture(autouse=True)
def own_site():
    with override_settings(ROOT_URLCONF="tests.admin.test_fits_in"):
        yield


@pytest.fixture
def row() -> Any:
    endpoint = Endpoint.objects.create(name="tea.example")
    return Webhook.objects.create(endpoint=endpoint, payload="tea")


def formset(row: Any, prefix: str, **columns: Any) -> dict[str, Any]:
    return {
        f"{prefix}-TOTAL_FORMS": "1",
        f"{prefix}-INITIAL_FORMS": "1",
        f"{prefix}-0-id": str(row.pk),
        **{f"{prefix}-0-{name}": value for name, value in columns.items()},
    }


def test_a_list_is_edited_and_moves_no_row(admin_client, row):
    assert 'name="form-0-payload"' in admin_client.get(LIST).text

    given = formset(row, "form", payload="coffee", state="confirmed")
    admin_client.post(LIST, {**given, "_save": "Save"})

    row.refresh_from_db()
    assert (row.payload, row.state) == ("coffee", "queued")


def test_a_row_is_an_inline_of_another_models_page(admin_client, row):
    page = f"/fitting/testapp/endpoint/{row.endpoint_id}/change/"
    assert 'name="webhooks-0-payload"' in admin_client.get(page).text

    given = formset(row, "webhooks", payload="coffee", endpoint=row.endpoint_id, state="confirmed")
    values = {each.name: getattr(row.endpoint, each.name) for each in Endpoint._meta.fields}
    admin_client.post(page, {**values, **given})

    row.refresh_from_db()
    assert (row.payload, row.state) == ("coffee", "queued")


def test_a_key_is_typed(admin_client, row):
    page = admin_client.get(f"{LIST}{row.pk}/change/")

    assert "vForeignKeyRawIdAdminField" in page.text
    assert "fsmworker-row-title" in page.text
    assert site.get_model_admin(Webhook).check() == []
