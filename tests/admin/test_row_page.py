from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.contenttypes.models import ContentType

from django_fsmworker import clock
from django_fsmworker.admin.formatting import moment
from testapp.models import Order
from tests.admin.pages import inline_parts
from tests.admin.sites import lives
from tests.app.models import BasicModel, TextKey

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

HOSTILE = "<script>alert('x')</script>\n</pre><b>bold"


def page_of(row, site="lives"):
    return f"/{site}/{row._meta.app_label}/{row._meta.model_name}/{row.pk}/change/"


class TestLife:
    def test_state_due_time_and_failures_are_shown(self, admin_client, make_row):
        row = make_row(state_next=clock.now() + timedelta(minutes=9), state_failures=2)

        page = admin_client.get(page_of(row))

        assert '<span class="fsmworker-badge fsmworker-failing">new</span></div>' in page.text
        assert ">failing: 2 attempts, in 9 min</time>" in page.text
        assert '<div class="readonly">2</div>' in page.text

    def test_nothing_of_it_can_be_edited(self, admin_client, make_row):
        row = make_row()
        before = BasicModel.objects.values().get()

        page = admin_client.get(page_of(row))
        answer = admin_client.post(
            page_of(row),
            {"ready": "on", "state": "done", "state_next_0": "", "state_failures": "9"},
        )

        assert list(page.context["adminform"].form.fields) == ["ready"]
        assert answer.status_code == 302
        assert BasicModel.objects.values().get() == {**before, "ready": True}

    def test_an_unknown_state_can_be_seen_and_its_row_saved(self, admin_client, make_row):
        row = make_row(state="<old>", state_next=None)

        page = admin_client.get(page_of(row))
        admin_client.post(page_of(row), {"ready": "on"})

        row.refresh_from_db()
        assert "&lt;old&gt;" in page.text
        assert (row.state, row.ready) == ("<old>", True)

    def test_a_new_row_has_none_yet(self, admin_client):
        page = admin_client.get("/lives/tests/basicmodel/add/")
        admin_client.post("/lives/tests/basicmodel/add/", {"state": "done"})

        assert "State" not in page.text
        assert BasicModel.objects.get().state == "new"

    def test_lines_of_your_own_stay_where_you_put_them(self, admin_client):
        order = Order.objects.create()

        fieldsets = [
            (str(fieldset.name), [[*map(str, line.fields)] for line in fieldset])
            for fieldset in admin_client.get(page_of(order)).context["adminform"]
        ]

        assert fieldsets == [
            ("None", [["payment_id"], ["state", "shown_age"]]),
            (
                "Life",
                [
                    ["shown_state"],
                    ["state_changed"],
                    ["shown_due", "state_next", "state_lease"],
                    ["shown_failures"],
                ],
            ),
        ]

    def test_a_viewer_sees_it(self, visitor, make_row):
        page = visitor("tests.view_basicmodel").get(page_of(make_row()))

        assert '<span class="fsmworker-badge fsmworker-working">new</span></div>' in page.text

    def test_a_row_that_is_gone_leads_back(self, admin_client):
        answer = admin_client.get("/lives/tests/basicmodel/77/change/")

        assert answer.status_code == 302


class TestFailure:
    def test_is_shown_and_linked(self, admin_client, make_row, make_failure):
        row = make_row(state_failures=3)
        record = make_failure(row, count=3)

        page = admin_client.get(page_of(row))

        address = f"/lives/django_fsmworker/failurerecord/{record.pk}/change/"
        assert f'<a href="{address}">builtins.ValueError</a>' in page.text
        assert "no such thing" in page.text
        assert "3 times, from " in page.text
        assert "host:4711" in page.text
        assert "<pre>Traceback (most recent call last):\n  secret line</pre>" in page.text

    def test_seen_once_and_resolved(self, admin_client, make_row, make_failure):
        row = make_row()
        make_failure(row, resolved=clock.now())

        page = admin_client.get(page_of(row))

        assert "once, " in page.text
        assert "; resolved " in page.text
        assert "before" not in page.text
        assert [fieldset.name for fieldset in page.context["adminform"]][2] == "Earlier failure"

    def test_how_often_it_failed_before(self, admin_client, make_row, make_failure):
        row, now = make_row(state_failures=2), clock.now()
        record = make_failure(row, count=2, resolved_failures=5, last_resolved=now)

        failing = admin_client.get(page_of(row))
        record.resolved, record.resolved_failures = now, 7
        record.save()
        resolved = admin_client.get(page_of(row))

        assert f"; 5 times before, resolved last {moment(now)}</div>" in failing.text
        assert f"; resolved {moment(now)}; 5 times before</div>" in resolved.text

    def test_of_a_row_that_was_parked_it_says_no_failure(self, admin_client, make_row):
        row = make_row()
        BasicModel.objects.filter(pk=row.pk).park("until Monday")

        text = admin_client.get(page_of(row)).text

        assert ">no failure; parked " in text
        assert "until Monday" in text

    def test_no_record_no_fieldset(self, admin_client, make_row):
        page = admin_client.get(page_of(make_row()))

        assert [fieldset.name for fieldset in page.context["adminform"]] == [None, "Life"]

    def test_another_rows_record_is_not_its_own(self, admin_client, make_row, make_failure):
        row = make_row()
        make_failure(row, model="testapp.Order")

        assert "no such thing" not in admin_client.get(page_of(row)).text

    def test_every_field_of_the_record_is_escaped(self, admin_client, make_row, make_failure):
        row = make_row()
        make_failure(row, error="<i>E", message=HOSTILE, traceback=HOSTILE, worker="<i>w")

        text = admin_client.get(page_of(row)).text

        assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;<br>" in text
        assert "<script>alert" not in text
        assert "<b>bold" not in text
        assert "<i>" not in text

    def test_the_page_has_nothing_inline(self, admin_client, make_row, make_failure):
        row = make_row()
        make_failure(row)

        assert inline_parts(admin_client.get(page_of(row))) == []

    def test_a_traceback_takes_its_permission(self, visitor, make_row, make_failure):
        row = make_row()
        make_failure(row)
        client = visitor("tests.change_basicmodel")

        page = client.get(page_of(row))

        assert "no such thing" in page.text
        assert "secret line" not in page.text
        assert "failurerecord" not in page.text

    def test_with_the_permission_it_is_shown(self, visitor, make_row, make_failure):
        row = make_row()
        make_failure(row)
        client = visitor("tests.view_basicmodel", "django_fsmworker.view_traceback")

        assert "secret line" in client.get(page_of(row)).text

    def test_the_record_is_linked_for_those_who_may_see_it(self, visitor, make_row, make_failure):
        row = make_row()
        make_failure(row)
        client = visitor("tests.view_basicmodel", "django_fsmworker.view_failurerecord")

        assert "failurerecord/" in client.get(page_of(row)).text

    def test_a_site_without_failure_records(self, admin_client, make_row, make_failure):
        row = make_row()
        make_failure(row)

        text = admin_client.get(page_of(row, "bare")).text

        assert "builtins.ValueError" in text
        assert "failurerecord" not in text

    def test_a_row_with_a_text_key_has_its_page(self, admin_client):
        TextKey.objects.create(code="a/b_c d")

        page = admin_client.get("/lives/tests/textkey/a_2Fb_5Fc%20d/change/")

        assert page.status_code == 200


class TestOtherDatabase:
    def test_the_record_comes_from_the_rows_database(self, admin_client, make_row, make_failure):
        row = make_row(using="other")
        make_failure(row, message="from the default one")
        make_failure(row, using="other", message="from the other one")

        text = admin_client.get(page_of(row, "elsewhere")).text

        assert "from the other one" in text
        assert "from the default one" not in text
        assert "/elsewhere/django_fsmworker/failurerecord/" in text

    def test_a_record_that_the_site_does_not_list_is_not_linked(
        self, admin_client, make_row, make_failure
    ):
        row = make_row(using="other")
        record = make_failure(row, using="other")

        text = admin_client.get(page_of(row, "mixed")).text

        assert "no such thing" in text
        assert f"/failurerecord/{record.pk}/" not in text

    def test_a_traceback_line_of_your_own_is_empty_without_permission(
        self, visitor, make_row, make_failure
    ):
        row = make_row(using="other")
        make_failure(row, using="other")

        text = visitor("tests.change_basicmodel").get(page_of(row, "elsewhere")).text

        assert "secret line" not in text
        assert "Traceback:" in text


def test_the_number_of_queries(admin_client, make_row, django_assert_num_queries):
    row = make_row()
    # "View on site" asks for the content type, once per process.
    ContentType.objects.get_for_model(BasicModel)

    # The session, the user, the row and its failure record; three that explain; one for the verbs,
    # and one for the events.
    with django_assert_num_queries(9, exact=False):
        admin_client.get(page_of(row))


def test_lines_say_nothing_of_a_row_that_was_not_asked_for(make_row, make_failure):
    row = make_row()
    make_failure(row)
    page = lives.get_model_admin(BasicModel)

    for line in ("error", "message", "seen", "worker", "traceback"):
        assert getattr(page, f"failure_{line}")(row) == "-"
