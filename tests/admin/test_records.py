from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib import admin

from django_fsmworker import clock
from django_fsmworker.admin import StatorModelAdmin
from django_fsmworker.models import FailureRecord, StatorLog
from tests.admin.pages import cells, choices, inline_parts, keys
from tests.app.models import BasicModel, TextKey

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

FAILURES = "/lives/django_fsmworker/failurerecord/"
LOGS = "/lives/django_fsmworker/statorlog/"
HOSTILE = "<script>alert('x')</script>\n</pre><b>bold"


def page_of(record):
    return f"/lives/django_fsmworker/{record._meta.model_name}/{record.pk}/change/"


class TestFailureList:
    def test_it_shows_and_links_the_row_and_its_error(self, admin_client, make_row, make_failure):
        row = make_row()
        make_failure(row, count=3)

        page = admin_client.get(FAILURES)

        assert cells(page, "model") == ["tests.BasicModel"]
        assert cells(page, "linked_row") == [str(row.pk)]
        assert f'<a href="/lives/tests/basicmodel/{row.pk}/change/">' in page.text
        assert cells(page, "shown_error") == ["builtins.ValueError"]
        assert cells(page, "count") == ["3"]
        (seen,) = cells(page, "shown_last_seen")
        assert re.fullmatch(r"\d+ s ago", seen)
        assert cells(page, "shown_resolved") == ["-"]

    @pytest.mark.parametrize("model", ["tests.Noop", "testapp.Gone", "gone.Model", "nonsense"])
    def test_a_row_without_a_page_is_not_linked(self, admin_client, make_failure, model):
        make_failure(model=model, row="5")

        page = admin_client.get(FAILURES)

        assert '<td class="field-linked_row">5</td>' in page.text

    def test_a_row_without_a_key_is_not_linked(self, admin_client, make_failure):
        make_failure(row="")

        assert admin_client.get(FAILURES).status_code == 200

    def test_an_odd_key_is_quoted(self, admin_client, make_failure):
        row = TextKey.objects.create(code='a/"b">_')
        make_failure(row)

        page = admin_client.get(FAILURES)

        assert '<a href="/lives/tests/textkey/a_2F_22b_22_3E_5F/change/">' in page.text
        assert cells(page, "linked_row") == ["a/&quot;b&quot;&gt;_"]

    def test_a_row_that_the_user_may_not_see_is_not_linked(self, visitor, make_row, make_failure):
        make_failure(make_row())

        page = visitor("django_fsmworker.view_failurerecord").get(FAILURES)

        assert "basicmodel" not in page.text
        assert cells(page, "model") == ["tests.BasicModel"]

    @pytest.mark.parametrize("records", [1, 100])
    def test_as_many_queries_for_one_record_as_for_many(
        self, admin_client, make_failure, django_assert_num_queries, records
    ):
        for number in range(records):
            make_failure(row=str(number))

        # The session, the user, the count and the records.
        with django_assert_num_queries(4) as queries:
            page = admin_client.get(FAILURES)

        assert len(cells(page, "shown_error")) == records
        assert "traceback" not in queries.captured_queries[-1]["sql"]

    def test_a_viewer_takes_two_queries_more(
        self, visitor, make_failure, django_assert_num_queries
    ):
        client = visitor("django_fsmworker.view_failurerecord", "tests.view_basicmodel")
        for number in range(100):
            make_failure(row=str(number))

        # The two of the permissions come with the user.
        with django_assert_num_queries(6):
            client.get(FAILURES)

    def test_filter_by_model(self, admin_client, make_failure):
        record = make_failure()
        make_failure(model="testapp.Order")

        page = admin_client.get(FAILURES, {"model": "tests.BasicModel"})

        assert keys(page) == [record.pk]
        assert {"tests.BasicModel", "testapp.Order"} <= set(choices(page, "model"))

    def test_filter_by_a_model_that_is_gone(self, admin_client, make_failure):
        record = make_failure(model="gone.Model")

        page = admin_client.get(FAILURES, {"model": "gone.Model"})

        assert keys(page) == [record.pk]
        assert choices(page, "model")[-1] == "gone.Model"

    def test_filter_by_resolved(self, admin_client, make_failure):
        failing = make_failure()
        resolved = make_failure(row="2", resolved=clock.now())

        assert keys(admin_client.get(FAILURES, {"resolved": "no"})) == [failing.pk]
        assert keys(admin_client.get(FAILURES, {"resolved": "yes"})) == [resolved.pk]
        assert len(keys(admin_client.get(FAILURES, {"resolved": "maybe"}))) == 2

    @pytest.mark.parametrize("words", ["41", "KeyE", "such THING"])
    def test_a_search_finds_rows_and_errors(self, admin_client, make_failure, words):
        record = make_failure(row="41", error="builtins.KeyError")
        make_failure(row="411", message="other")

        assert keys(admin_client.get(FAILURES, {"q": words})) == [record.pk]

    def test_every_column_is_escaped(self, admin_client, make_failure):
        make_failure(model="<i>m", row="<i>r", state="<i>s", error="<i>e")

        assert "<i>" not in admin_client.get(FAILURES).text

    def test_list_and_page_have_nothing_inline(self, admin_client, make_failure):
        record = make_failure()

        assert inline_parts(admin_client.get(FAILURES)) == []
        assert inline_parts(admin_client.get(page_of(record))) == []


class TestFailurePage:
    def test_shows_all_of_it(self, admin_client, make_row, make_failure):
        row = make_row()
        page = admin_client.get(page_of(make_failure(row)))

        assert f'<a href="/lives/tests/basicmodel/{row.pk}/change/">{row.pk}</a>' in page.text
        assert "no such thing" in page.text
        assert "<pre>Traceback (most recent call last):\n  secret line</pre>" in page.text

    def test_every_field_is_escaped(self, admin_client, make_failure):
        record = make_failure(model="<i>m", row="<i>r", message=HOSTILE, traceback=HOSTILE)

        text = admin_client.get(page_of(record)).text

        assert "<script>alert" not in text
        assert "<b>bold" not in text
        assert "<i>" not in text

    def test_a_traceback_takes_its_permission(self, visitor, make_failure):
        client = visitor("django_fsmworker.view_failurerecord")

        text = client.get(page_of(make_failure())).text

        assert "no such thing" in text
        assert "secret line" not in text

    def test_with_the_permission_it_is_shown(self, visitor, make_failure):
        client = visitor("django_fsmworker.view_failurerecord", "django_fsmworker.view_traceback")

        assert "secret line" in client.get(page_of(make_failure())).text

    @pytest.mark.parametrize("lookup", ["traceback__contains", "traceback"])
    def test_a_hidden_traceback_cannot_be_guessed(self, visitor, make_failure, lookup):
        make_failure()

        answer = visitor("django_fsmworker.view_failurerecord").get(FAILURES, {lookup: "secret"})

        assert answer.status_code == 400

    def test_with_the_permission_it_can_be_filtered_by(self, admin_client, make_failure):
        record = make_failure()

        assert keys(admin_client.get(FAILURES, {"traceback__contains": "secret"})) == [record.pk]

    def test_a_record_that_is_gone_leads_back(self, admin_client):
        assert admin_client.get(f"{FAILURES}77/change/").status_code == 302

    def test_nobody_adds_or_changes(self, admin_client, make_failure):
        record = make_failure()

        assert admin_client.get(f"{FAILURES}add/").status_code == 403
        assert admin_client.post(page_of(record), {"message": "other"}).status_code == 403
        assert FailureRecord.objects.get().message == "no such thing"

    def test_deleting_takes_djangos_permission(self, visitor, make_failure):
        record = make_failure()
        client = visitor("django_fsmworker.view_failurerecord")
        address = page_of(record).replace("change", "delete")

        assert client.post(address, {"post": "yes"}).status_code == 403

    def test_with_that_permission_records_can_be_deleted(self, visitor, make_failure):
        record = make_failure()
        many = [make_failure(row="2").pk, make_failure(row="3").pk]
        client = visitor(
            "django_fsmworker.view_failurerecord", "django_fsmworker.delete_failurerecord"
        )

        client.post(page_of(record).replace("change", "delete"), {"post": "yes"})
        assert FailureRecord.objects.count() == 2
        client.post(
            FAILURES, {"action": "delete_selected", "_selected_action": many, "post": "yes"}
        )
        assert FailureRecord.objects.count() == 0

    def test_a_record_of_another_database_is_shown_and_deleted_there(
        self, admin_client, make_failure
    ):
        make_failure(message="of the default one")
        record = make_failure(using="other", message="of the other one")
        address = page_of(record).replace("lives", "elsewhere")

        assert "of the other one" in admin_client.get(address).text
        admin_client.post(address.replace("change", "delete"), {"post": "yes"})

        assert FailureRecord.objects.using("other").count() == 0
        assert FailureRecord.objects.count() == 1


class TestLog:
    @pytest.fixture
    def log(self):
        now = clock.now()
        return StatorLog.objects.create(
            model="testapp.Order",
            worker="<i>host:7",
            since=now - timedelta(minutes=1),
            until=now,
            moved=12,
        )

    def test_the_list_shows_counts_and_escapes_the_worker(
        self, admin_client, log, django_assert_num_queries
    ):
        with django_assert_num_queries(4):
            page = admin_client.get(LOGS)

        assert cells(page, "moved") == ["12"]
        assert cells(page, "worker") == ["&lt;i&gt;host:7"]

    def test_filter_and_search(self, admin_client, log):
        assert keys(admin_client.get(LOGS, {"model": "testapp.Order"})) == [log.pk]
        assert keys(admin_client.get(LOGS, {"model": "tests.Noop"})) == []
        assert keys(admin_client.get(LOGS, {"q": "host:8"})) == []

    def test_nobody_adds_or_changes(self, admin_client, log):
        assert admin_client.get(page_of(log)).status_code == 200
        assert admin_client.get(f"{LOGS}add/").status_code == 403
        assert admin_client.post(page_of(log), {"moved": "1"}).status_code == 403

    def test_a_stranger_sees_nothing(self, visitor, log):
        assert visitor().get(LOGS).status_code == 403


class TestTransitionLog:
    LOG = "/lives/django_fsmworker/transitionrecord/"

    @pytest.fixture
    def rows(self, make_row, monkeypatch):
        monkeypatch.setattr(BasicModel, "log_transitions", True)
        rows = [make_row(), make_row()]
        rows[0].state_transition("slow", by="ann", reason="<b>why")
        rows[1].state_transition("done")
        return rows

    def test_the_latest_come_first(self, admin_client, rows):
        page = admin_client.get(self.LOG)

        assert cells(page, "target") == ["done", "slow"]
        assert cells(page, "reason") == ["-", "&lt;b&gt;why"]
        assert f'href="/lives/tests/basicmodel/{rows[0].pk}/change/"' in page.text

    def test_search_by_key(self, admin_client, rows):
        page = admin_client.get(self.LOG, {"q": str(rows[0].pk)})

        assert cells(page, "target") == ["slow"]

    def test_nothing_can_be_changed(self, admin_client, rows):
        entry = rows[0].state_log.get()

        page = admin_client.get(f"{self.LOG}{entry.pk}/change/")

        assert 'name="_save"' not in page.text
        assert "&lt;b&gt;why" in page.text

    def test_what_a_form_moves_is_moved_by_its_user(self, rf, admin_user, rows):
        request = rf.post("/")
        request.user = admin_user
        page = StatorModelAdmin(BasicModel, admin.site)
        rows[0].state = "done"

        page.save_model(request, rows[0], form=None, change=True)

        assert rows[0].state_log.last().by == admin_user.username
