"""The setting ADMIN_READ_ONLY: nothing can be done on any page, also by a superuser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.urls import get_resolver

from django_fsmworker.models import BulkAction, Event, FailureRecord, Worker
from django_fsmworker.models.limits import Pause
from django_fsmworker.pauses import pause, paused
from tests.app.models import BasicModel
from tests.workers_on_record import on_record

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

LIST = "/lives/tests/basicmodel/"
DASHBOARD = "/lives/django_fsmworker/worker/stator/"
OURS = ("tests/", "testapp/", "django_fsmworker/")
FILLED = {"object_id": "1", "verb": "retry", "subject": "x", "order": "stop", "path": "x"}


@pytest.fixture(autouse=True)
def read_only(settings):
    settings.FSMWORKER = {"ADMIN_READ_ONLY": True}


def addresses(site):
    """Each address of this package's admins in the site, with something filled in."""
    patterns: Any = get_resolver("tests.admin.sites").url_patterns
    for resolver in patterns:
        if str(resolver.pattern) == f"{site}/":
            for models in resolver.url_patterns:
                if str(models.pattern).startswith(OURS):
                    for each in models.url_patterns:
                        below = re.sub(r"<(\w+:)?(\w+)>", lambda m: FILLED[m[2]], str(each.pattern))
                        yield f"/{site}/{models.pattern}{below}"


def test_whoever_posts_is_refused_everywhere(admin_client, make_row):
    make_row()
    found = list(addresses("lives"))
    assert LIST in found
    assert f"{DASHBOARD}pauses/set/" in found
    assert f"{LIST}1/state/retry/" in found

    answers = {each: admin_client.post(each, {"confirmed": "1"}).status_code for each in found}

    assert {each: code for each, code in answers.items() if code != 403} == {}
    assert BasicModel.objects.count() == 1


@pytest.mark.parametrize(
    "model", [BasicModel, FailureRecord, Event, BulkAction, Worker], ids=lambda each: each.__name__
)
def test_lists_have_no_buttons(admin_client, make_row, make_failure, model):
    make_failure(make_row())

    page = admin_client.get(f"/lives/{model._meta.label_lower.replace('.', '/')}/?o=1")

    assert page.status_code == 200
    assert 'name="action"' not in page.text
    assert "addlink" not in page.text


def test_the_dashboard_has_no_buttons(admin_client, make_row, make_failure):
    make_failure(make_row(state_failures=1))
    on_record("a")
    pause(BasicModel, reason="snow")

    page = admin_client.get(DASHBOARD)

    assert "snow" in page.text
    assert "builtins.ValueError" in page.text
    assert f'action="{DASHBOARD}' not in page.text
    assert "pauses/set/" not in page.text
    assert admin_client.get(f"{DASHBOARD}pauses/set/").status_code == 403
    assert len(paused("default")) == 1


def test_a_rows_page_shows_it_and_has_no_buttons(admin_client, make_row):
    row = make_row()

    page = admin_client.get(f"{LIST}{row.pk}/change/")

    assert "fsmworker-row-title" in page.text
    assert "state/" not in re.sub(r"<nav.*?</nav>", "", page.text, flags=re.S)
    assert 'name="_save"' not in page.text


def test_it_is_the_setting_of_the_moment(admin_client, settings):
    settings.FSMWORKER = {}

    admin_client.post(f"{DASHBOARD}pauses/set/", {"what": "*", "reason": "snow"})

    assert Pause.objects.count() == 1
