"""Pauses on the dashboard: set by a form, lifted by a button."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from django_fsmworker import clock
from django_fsmworker.models.limits import Pause
from django_fsmworker.pauses import pause, paused
from tests.admin.pages import inline_parts, said
from tests.app.models import BasicModel, Parcel

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

PAGE = "/lives/django_fsmworker/worker/stator/"
SET, LIFT = (f"{PAGE}pauses/{each}/" for each in ("set", "lift"))
LIMITED = "/limited/django_fsmworker/worker/stator/"


class TestSetting:
    def asked(self, **more: str) -> dict[str, str]:
        return {"what": "tests.BasicModel", "reason": "the bank is away", **more}

    def errors(self, answer: Any) -> list[str]:
        assert answer.status_code == 200
        assert paused() == []
        return [each for some in answer.context["form"].errors.values() for each in some]

    def test_the_dashboard_leads_to_the_form(self, admin_client):
        assert f'href="{SET}"' in admin_client.get(PAGE).text

        page = admin_client.get(f"{SET}?what=tests.BasicModel.slow")

        assert '<option value="tests.BasicModel.slow" selected>' in page.text
        assert 'value="tests.BasicModel.deleted"' not in page.text
        assert inline_parts(page) == []

    def test_a_model_is_paused_until_it_is_lifted(self, admin_client):
        answer = admin_client.post(SET, self.asked(), follow=True)

        assert said(answer) == ["tests.BasicModel is paused."]
        [found] = paused()
        assert (found.model, found.state, found.by) == ("tests.BasicModel", "", "admin")
        assert (found.reason, found.until) == ("the bank is away", None)
        assert "it is lifted" in answer.text

    def test_a_state_for_a_time(self, admin_client):
        admin_client.post(SET, self.asked(what="tests.BasicModel.slow", lasts="3600"))

        [found] = paused()
        assert found.state == "slow"
        assert found.until is not None
        assert timedelta(minutes=59) < found.until - clock.now() <= timedelta(hours=1)

    def test_until_a_moment_in_the_time_zone_of_the_site(self, admin_client, settings):
        settings.TIME_ZONE = "Asia/Tokyo"
        end = clock.now().replace(second=0, microsecond=0) + timedelta(hours=3)

        admin_client.post(SET, self.asked(until=f"{end + timedelta(hours=9):%Y-%m-%dT%H:%M}"))

        [found] = paused()
        assert found.until is not None
        assert abs(found.until - end) < timedelta(seconds=5)

    def test_a_key(self, admin_client):
        asked = {"what": "tests.Parcel.keyed", "key": "7", "reason": "429"}

        admin_client.post(f"{LIMITED}pauses/set/", asked)

        assert [(each.state, each.key) for each in paused()] == [("keyed", "7")]
        assert [each.pk for each in paused()] == [each.pk for each in pause(Parcel, "keyed", key=7)]

    @pytest.mark.parametrize(("site", "databases"), [("lives", ""), ("mixed", "other")])
    def test_everything(self, admin_client, site, databases):
        page = f"/{site}/django_fsmworker/worker/stator/"
        answer = admin_client.post(f"{page}pauses/set/", self.asked(what="*"), follow=True)

        assert said(answer) == ["Everything is paused."]
        assert len(paused("default")) == 1
        assert len(paused("other")) == len(databases.split())
        assert "everything" in answer.text

    def test_the_rows_of_another_database_are_paused_there(self, admin_client):
        page = "/mixed/django_fsmworker/worker/stator/"
        answer = admin_client.post(f"{page}pauses/set/", self.asked(), follow=True)

        assert [each.what for each in answer.context["pauses"]] == ["tests.BasicModel"]
        assert len(paused("other")) == 1
        assert paused("default") == []

    @pytest.mark.parametrize(
        ("given", "error"),
        [
            ({"reason": " "}, "This field is required."),
            ({"reason": "\0"}, "Null characters are not allowed."),
            ({"what": "testapp.Secret"}, "Select a valid choice. testapp.Secret is not one of"),
            ({"what": "tests.BasicModel.nirvana"}, "Select a valid choice."),
            ({"what": ""}, "This field is required."),
            ({"lasts": "1e9"}, "Select a valid choice."),
            ({"lasts": "900", "until": "2100-01-01T00:00"}, "Give a time or an end, not both."),
            ({"until": "2000-01-01T00:00"}, "This moment is over; give a later one."),
            ({"until": "soon"}, "Enter a valid date/time."),
            ({"key": "7"}, "tests.BasicModel has no keys; give a state of it a limit_by"),
            ({"what": "*", "key": "7"}, "A state or a key belongs to a model; name that, too."),
        ],
    )
    def test_what_is_wrong_is_said(self, admin_client, given, error):
        [said] = self.errors(admin_client.post(SET, self.asked(**given)))

        assert said.startswith(error)

    def test_a_key_that_its_column_does_not_take_is_refused(self, admin_client):
        asked = {"what": "tests.Parcel.keyed", "key": "<b>x</b>", "reason": "429"}

        page = admin_client.post(f"{LIMITED}pauses/set/", asked)

        assert self.errors(page) == ["“<b>x</b>” value must be an integer."]
        assert "<b>x</b>" not in page.text

    def test_only_models_that_the_user_sees_are_offered(self, visitor):
        client = visitor("django_fsmworker.view_worker", "django_fsmworker.add_pause")

        page = client.get(SET)

        assert [value for value, _label in page.context["form"]["what"].field.choices] == ["*"]
        assert self.errors(client.post(SET, self.asked()))

    def test_takes_a_permission_of_its_own(self, visitor):
        client = visitor("django_fsmworker.view_worker", "django_fsmworker.change_pause")

        assert SET not in client.get(PAGE).text
        assert client.get(SET).status_code == 403
        assert client.post(SET, self.asked(what="*")).status_code == 403
        assert paused() == []

    def test_without_its_token_it_is_refused(self, admin_user):
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin_user)

        assert client.post(SET, self.asked()).status_code == 403
        assert paused() == []


class TestLifting:
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

    def test_its_button_names_it_also_where_numbers_are_written_with_separators(
        self, admin_client, settings
    ):
        settings.USE_THOUSAND_SEPARATOR = True
        pause(BasicModel)
        Pause.objects.update(id=12_345)

        page = admin_client.get(PAGE).text

        assert '<input type="hidden" name="pause" value="12345">' in page

    def test_in_another_database(self, admin_client):
        pause(BasicModel)
        [other] = pause(BasicModel, using="other")

        admin_client.post("/mixed/django_fsmworker/worker/stator/pauses/lift/", self.posted(other))

        assert paused("other") == []
        assert len(paused("default")) == 1

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
