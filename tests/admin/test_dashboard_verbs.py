"""The dashboard's buttons for groups of failures and for pauses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.admin import StatorModelAdmin
from django_fsmworker.models import FailureRecord
from django_fsmworker.models.limits import Pause
from django_fsmworker.pauses import pause, paused
from tests.admin.pages import inline_parts
from tests.admin.sites import lives
from tests.app.models import BasicModel

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

PAGE = "/lives/django_fsmworker/worker/stator/"
RETRY, PARK, LIFT = (
    f"{PAGE}{each}/" for each in ("failures/retry", "failures/park", "pauses/lift")
)

LOOKS = ("django_fsmworker.view_worker", "django_fsmworker.view_failurerecord")
CHANGES = "tests.change_basicmodel"


def group(**more: str) -> dict[str, str]:
    return {"model": "tests.BasicModel", "state": "new", "error": "builtins.ValueError", **more}


def said(answer: Any) -> list[str]:
    return [str(each) for each in answer.context["messages"]]


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
    def test_a_button_asks_first(self, admin_client, failing):
        assert f'action="{RETRY}"' in admin_client.get(PAGE).text

        page = admin_client.post(RETRY, group())

        assert (
            "3 rows of tests.BasicModel fail in the state new with builtins.ValueError."
            in page.text
        )
        assert inline_parts(page) == []
        assert len(failing_keys()) == 5

    def test_retry_makes_the_group_due_and_no_others(self, admin_client, failing):
        answer = admin_client.post(RETRY, group(confirmed="1", reason="it is back"), follow=True)

        assert said(answer) == ["Retry now: 3 rows."]
        assert failing_keys() == {row.pk for row in failing[3:]}
        assert BasicModel.objects.due().count() == 3
        assert FailureRecord.objects.exclude(resolved=None).count() == 3

    def test_to_park_takes_a_reason(self, admin_client, failing):
        page = admin_client.post(PARK, group(confirmed="1"))

        assert said(page) == ["Give a reason to park them for: it is put on record."]
        assert not BasicModel.objects.parked().exists()

    def test_park(self, admin_client, failing):
        admin_client.post(PARK, group(confirmed="1", reason="tomorrow"))

        assert {row.pk for row in BasicModel.objects.parked()} == {row.pk for row in failing[:3]}
        assert FailureRecord.objects.filter(parked_reason="tomorrow").count() == 3
        again = admin_client.post(PARK, group(confirmed="1", reason="later"), follow=True)
        assert said(again)[-1] == "Park: 0 rows."

    def test_one_request_takes_so_many_and_the_next_goes_on(
        self, admin_client, failing, monkeypatch
    ):
        monkeypatch.setattr(lives.get_model_admin(BasicModel), "state_action_limit", 2)

        assert "There may be more" in admin_client.post(PARK, group()).text
        for expected in (2, 3):
            admin_client.post(PARK, group(confirmed="1", reason="tomorrow"))
            assert BasicModel.objects.parked().count() == expected

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
    def test_take_permissions(self, visitor, failing, permissions):
        client = visitor(*permissions)

        assert RETRY not in client.get(PAGE).text
        assert client.post(RETRY, group(confirmed="1")).status_code == 403
        assert len(failing_keys()) == 5

    def test_are_done_by_who_has_them(self, visitor, failing):
        client = visitor(*LOOKS, CHANGES, "django_fsmworker.retry_row")

        page = client.get(PAGE).text
        client.post(RETRY, group(confirmed="1"))

        assert RETRY in page
        assert PARK not in page
        assert len(failing_keys()) == 2

    def test_a_read_only_admin_offers_none(self, admin_client, failing, monkeypatch):
        monkeypatch.setattr(StatorModelAdmin, "state_read_only", True)

        assert RETRY not in admin_client.get(PAGE).text
        assert admin_client.post(RETRY, group(confirmed="1")).status_code == 403

    @pytest.mark.parametrize("model", ["", "nonsense", "auth.User", "tests.Nowhere"])
    def test_made_up_models_are_refused(self, admin_client, model):
        assert admin_client.post(RETRY, group(model=model)).status_code == 403

    def test_are_no_links(self, admin_client):
        assert admin_client.get(RETRY).status_code == 405

    def test_keys_that_are_none_are_left_out(self, admin_client, failing, make_failure):
        make_failure(row="not a number")

        answer = admin_client.post(RETRY, group(confirmed="1"), follow=True)

        assert said(answer) == ["Retry now: 3 rows."]


class TestPauses:
    def posted(self, found: Pause) -> dict[str, Any]:
        return {"pause": found.pk, "database": found._state.db}

    def test_one_is_lifted_and_no_other(self, admin_client):
        [wide] = pause(BasicModel, by="ops")
        [narrow] = pause(BasicModel, "slow", by="ops")
        assert f'action="{LIFT}"' in admin_client.get(PAGE).text

        answer = admin_client.post(LIFT, self.posted(wide), follow=True)

        assert said(answer) == ["The pause is lifted: tests.BasicModel."]
        assert paused() == [narrow]
        wide.refresh_from_db()
        assert wide.lifted_by == "admin"

    def test_in_another_database(self, admin_client):
        pause(BasicModel)
        [other] = pause(BasicModel, using="other")

        admin_client.post(LIFT, self.posted(other))

        assert [each._state.db for each in paused()] == ["default"]

    @pytest.mark.parametrize("named", [{}, {"pause": "x", "database": "nowhere"}])
    def test_one_that_is_over_is_said_so(self, admin_client, named):
        assert said(admin_client.post(LIFT, named, follow=True)) == ["This pause is over."]

    def test_takes_a_permission(self, visitor):
        [found] = pause(BasicModel)
        client = visitor("django_fsmworker.view_worker")

        assert LIFT not in client.get(PAGE).text
        assert client.post(LIFT, self.posted(found)).status_code == 403
        assert paused() == [found]

    def test_is_done_by_who_has_it(self, visitor):
        [found] = pause(BasicModel)
        client = visitor("django_fsmworker.view_worker", "django_fsmworker.change_pause")

        assert LIFT in client.get(PAGE).text
        client.post(LIFT, self.posted(found))

        assert paused() == []

    def test_is_no_link(self, admin_client):
        assert admin_client.get(LIFT).status_code == 405
