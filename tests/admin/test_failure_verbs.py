"""The dashboard's buttons for groups of failures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.admin import StatorModelAdmin
from django_fsmworker.models import BulkAction, FailureRecord
from django_fsmworker.models.failing_rows import rows_of_records
from django_fsmworker.models.keys import key_of
from django_fsmworker.testing import step
from tests.admin.pages import inline_parts, said
from tests.admin.sites import lives
from tests.app.models import BasicModel
from tests.model_kinds import KINDS

pytestmark = [pytest.mark.django_db(databases=["default", "other"])]

PAGE = "/lives/django_fsmworker/worker/stator/"
RETRY, PARK = (f"{PAGE}failures/{each}/" for each in ("retry", "park"))

NAMES = [kind.name for kind in KINDS if kind.using == "default"]
TIMES = {"first_seen": clock.now(), "last_seen": clock.now()}

LOOKS = ("django_fsmworker.view_worker", "django_fsmworker.view_failurerecord")
CHANGES = "tests.change_basicmodel"


def group(**more: str) -> dict[str, str]:
    return {"model": "tests.BasicModel", "state": "new", "error": "builtins.ValueError", **more}


@pytest.fixture
def failing(make_row, make_failure):
    """Three rows of the group, one with another error, one in another state."""
    later = clock.now() + timedelta(hours=1)
    rows = [make_row(state_next=later, state_failures=2) for _ in range(5)]
    for row, named in zip(
        rows, [{}, {}, {}, {"error": "app.Other"}, {"state": "slow"}], strict=True
    ):
        make_failure(row, **named)
    return rows


def failing_keys() -> set[Any]:
    return set(BasicModel.objects.filter(state_failures__gt=0).values_list("pk", flat=True))


class TestFailures:
    @pytest.mark.once
    def test_a_button_asks_first(self, admin_client, failing):
        assert f'action="{RETRY}"' in admin_client.get(PAGE).text

        page = admin_client.post(RETRY, group())

        assert (
            "Rows of tests.BasicModel that fail in the state new with builtins.ValueError. "
            "It applies to 3 of the 3 rows chosen."
        ) in page.text
        assert inline_parts(page) == []
        assert len(failing_keys()) == 5

    def test_retry_makes_the_group_due_and_no_others(self, admin_client, failing):
        answer = admin_client.post(RETRY, group(confirmed="1", reason="it is back"), follow=True)

        assert said(answer) == ["Retry now: 3 rows were written, 0 left out."]
        assert failing_keys() == {row.pk for row in failing[3:]}
        assert BasicModel.objects.due().count() == 3
        assert FailureRecord.objects.exclude(resolved=None).count() == 3

    @pytest.mark.once
    def test_to_park_takes_a_reason(self, admin_client, failing):
        page = admin_client.post(PARK, group(confirmed="1"))

        assert said(page) == ["Give a reason to park them for: it is put on record."]
        assert not BasicModel.objects.parked().exists()

    def test_park(self, admin_client, failing):
        admin_client.post(PARK, group(confirmed="1", reason="tomorrow"))

        assert {row.pk for row in BasicModel.objects.parked()} == {row.pk for row in failing[:3]}
        assert FailureRecord.objects.filter(parked_reason="tomorrow").count() == 3
        again = admin_client.post(PARK, group(confirmed="1", reason="later"), follow=True)
        assert said(again)[-1] == "Park: 0 rows were written, 0 left out."

    def test_more_rows_than_a_request_does_are_left_to_the_runners(
        self, admin_client, failing, monkeypatch
    ):
        monkeypatch.setattr(lives.get_model_admin(BasicModel), "state_action_limit", 2)

        assert "No living runner would do it now." in admin_client.post(PARK, group()).text
        admin_client.post(PARK, group(confirmed="1", reason="tomorrow"))

        action = BulkAction.objects.get()
        assert action.described == "tests.BasicModel new builtins.ValueError"
        assert action.reason == "tomorrow"
        assert not BasicModel.objects.parked().exists()
        while action.state != "done":
            step(action)
        assert {row.pk for row in BasicModel.objects.parked()} == {row.pk for row in failing[:3]}

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.using == "default"], ids=NAMES)
    def test_whatever_the_key_is(self, kind):
        rows = [kind.stored(kind.row(number, wish="fail")) for number in range(3)]
        for row in rows[:2]:
            row.state_transition_check()
        kind.rows().filter(pk=rows[1].pk).update(wish="stay")
        records = FailureRecord.objects.filter(model=kind.runs._meta.label)
        FailureRecord.objects.create(model=kind.runs._meta.label, row="no key", **TIMES)

        found = kind.model._base_manager.filter(rows_of_records(kind.model, records))

        assert {key_of(row) for row in found} == {rows[0].pk, rows[1].pk}

    def test_of_another_database(self, admin_client, make_row, make_failure):
        later = clock.now() + timedelta(hours=1)
        row = make_row("other", state_next=later, state_failures=2)
        make_failure(row, "other")
        make_failure()
        mixed = PAGE.replace("lives", "mixed")

        page = admin_client.get(mixed).text
        answer = admin_client.post(f"{mixed}failures/retry/", group(confirmed="1"), follow=True)

        assert "tests.BasicModel (other)" in page
        assert page.count('name="error" value="builtins.ValueError"') == 2
        assert said(answer) == ["Retry now: 1 row was written, 0 left out."]
        assert FailureRecord.objects.using("other").filter(resolved=None).count() == 0

    def test_rows_that_the_admin_does_not_show_are_left_alone(
        self, admin_client, failing, monkeypatch
    ):
        own = BasicModel.objects.exclude(pk=failing[0].pk)
        monkeypatch.setattr(lives.get_model_admin(BasicModel), "get_queryset", lambda request: own)

        admin_client.post(RETRY, group(confirmed="1"))

        assert failing[0].pk in failing_keys()
        assert failing[1].pk not in failing_keys()

    @pytest.mark.parametrize(
        "permissions",
        [
            (*LOOKS, CHANGES),
            (*LOOKS, "django_fsmworker.retry_row"),
            (LOOKS[0], CHANGES, "django_fsmworker.retry_row"),
        ],
    )
    @pytest.mark.once
    def test_take_permissions(self, visitor, failing, permissions):
        client = visitor(*permissions)

        assert RETRY not in client.get(PAGE).text
        assert client.post(RETRY, group(confirmed="1")).status_code == 403
        assert len(failing_keys()) == 5

    @pytest.mark.once
    def test_are_done_by_who_has_them(self, visitor, failing):
        client = visitor(*LOOKS, CHANGES, "django_fsmworker.retry_row")

        page = client.get(PAGE).text
        client.post(RETRY, group(confirmed="1"))

        assert RETRY in page
        assert PARK not in page
        assert len(failing_keys()) == 2

    @pytest.mark.once
    def test_a_read_only_admin_offers_none(self, admin_client, failing, monkeypatch):
        monkeypatch.setattr(StatorModelAdmin, "state_read_only", True)

        assert RETRY not in admin_client.get(PAGE).text
        assert admin_client.post(RETRY, group(confirmed="1")).status_code == 403

    @pytest.mark.parametrize("model", ["", "nonsense", "auth.User", "tests.Nowhere"])
    @pytest.mark.once
    def test_made_up_models_are_refused(self, admin_client, model):
        assert admin_client.post(RETRY, group(model=model)).status_code == 403

    @pytest.mark.once
    def test_are_no_links(self, admin_client):
        assert admin_client.get(RETRY).status_code == 405

    def test_keys_that_are_none_are_left_out(self, admin_client, failing, make_failure):
        make_failure(row="not a number")

        answer = admin_client.post(RETRY, group(confirmed="1"), follow=True)

        assert said(answer) == ["Retry now: 3 rows were written, 0 left out."]
