"""What Django's admin can do besides: lists that are edited, inlines, and the choice of a key."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import path

from django_fsmworker.admin import StatorModelAdmin
from tests.app.models import Account, Entry

pytestmark = [pytest.mark.once, pytest.mark.django_db]


class EntriesInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Entry


class EditableAdmin(StatorModelAdmin):
    list_display = ("pk", "balance")
    list_editable = ("balance",)
    inlines = (EntriesInline,)


class EntryAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    raw_id_fields = ("account",)


editable = admin.AdminSite(name="editable")
editable.register(Account, EditableAdmin)
editable.register(Entry, EntryAdmin)
urlpatterns = [path("editable/", editable.urls), path("admin/", admin.site.urls)]

URL = "/editable/tests/account/"


@pytest.fixture(autouse=True)
def urls(admin_urls: None, settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


def management(prefix: str, forms: int, initial: int) -> dict[str, Any]:
    return {f"{prefix}-TOTAL_FORMS": forms, f"{prefix}-INITIAL_FORMS": initial}


def test_a_list_that_is_edited_moves_no_row(admin_client: Client) -> None:
    row = Account.objects.create()
    assert 'name="form-0-balance"' in admin_client.get(URL).text
    row.state_transition("frozen")  # after the page was loaded

    form = {"form-0-id": row.pk, "form-0-balance": 7, "form-0-state": "open", "_save": "Save"}
    answer = admin_client.post(URL, {**management("form", 1, 1), **form})

    assert answer.status_code == 302
    row.refresh_from_db()
    assert (row.balance, row.state) == (7, "frozen")


def test_actions_are_beside_it(admin_client: Client) -> None:
    row = Account.objects.create()
    chosen = {"action": "state_send_rows", "_selected_action": row.pk, "subject": "freeze"}

    admin_client.post(URL, {**chosen, "confirmed": "1", "index": "0"})

    assert row.state_explain().reasons[-1].evidence["trigger"] == "freeze"


def test_a_page_with_inlines(admin_client: Client) -> None:
    row = Account.objects.create()
    page = f"{URL}{row.pk}/change/"
    assert "entries-TOTAL_FORMS" in admin_client.get(page).text

    entry = {"entries-0-number": 3, "entries-0-account": row.pk}
    answer = admin_client.post(
        page, {"mode": "new", **management("entries", 1, 0), **entry, "balance": 1}
    )

    assert answer.status_code == 302, answer.context["errors"]
    assert [each.number for each in row.entries.all()] == [3]
    row.refresh_from_db()
    assert row.state == "open"


def test_a_row_is_chosen_by_its_key(admin_client: Client) -> None:
    row = Account.objects.create()
    assert "lookup_id_account" in admin_client.get("/editable/tests/entry/add/").text
    assert admin_client.get(URL, {"_popup": "1", "_to_field": "id"}).status_code == 200

    admin_client.post("/editable/tests/entry/add/", {"account": row.pk, "number": 1})

    assert row.entries.count() == 1
