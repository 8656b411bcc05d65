from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib import admin

from django_fsmworker import clock
from django_fsmworker.admin import StateFilter, StatorModelAdmin
from django_fsmworker.diagnosis import status
from django_fsmworker.models import FailureRecord, StatorLog
from django_fsmworker.pauses import pause
from django_fsmworker.store.statistics import Statistics
from testapp.models import Order
from tests.admin.pages import cells, choices, inline_parts, keys
from tests.admin.sites import lives
from tests.app.models import BasicModel, BasicStates, Delivery, Noop, Receipt

pytestmark = [pytest.mark.once, pytest.mark.django_db]

URL = "/lives/tests/basicmodel/"


def ago(**amount):
    return clock.now() - timedelta(**amount)


def test_autodiscover_registers_the_records():
    assert admin.site.is_registered(FailureRecord)
    assert admin.site.is_registered(StatorLog)


@pytest.mark.parametrize("model", [BasicModel, Order])
def test_system_checks_are_content(model):
    assert lives.get_model_admin(model).check() == []


class TestColumns:
    def test_state_age_due_and_failures(self, admin_client, make_row):
        make_row(state_changed=ago(minutes=7), state_next=ago(minutes=-9), state_failures=2)

        page = admin_client.get(URL)

        assert cells(page, "shown_state") == ["new"]
        assert cells(page, "shown_age") == ["7 min"]
        assert cells(page, "shown_due") == ["failing: 2 attempts, in 9 min"]
        assert cells(page, "shown_failures") == ["2"]

    def test_nothing_to_do_is_the_sites_empty_value(self, admin_client, make_row):
        make_row(state="done", state_next=None)

        assert cells(admin_client.get(URL), "shown_due") == ["-"]

    def test_a_states_label_is_shown(self, admin_client, make_row, monkeypatch):
        make_row()
        monkeypatch.setattr(BasicStates.new, "declared_label", "Just <in>")

        assert cells(admin_client.get(URL), "shown_state") == ["Just &lt;in&gt;"]

    def test_an_unknown_state_shows_as_itself(self, admin_client, make_row):
        make_row(state="<b>old</b>")

        assert cells(admin_client.get(URL), "shown_state") == ["&lt;b&gt;old&lt;/b&gt;"]

    @pytest.mark.parametrize("column", range(2, 6))
    def test_each_can_be_sorted(self, admin_client, make_row, column):
        first = make_row(
            state="done", state_changed=ago(days=3), state_next=ago(days=3), state_failures=0
        )
        last = make_row(
            state="new", state_changed=ago(days=1), state_next=ago(days=1), state_failures=1
        )

        rows = admin_client.get(URL, {"o": column}).context["cl"].result_list

        expected = [last, first] if column == 3 else [first, last]
        assert list(rows) == expected

    def test_come_after_your_own_unless_you_name_them(self, admin_client, rf, admin_user):
        rf.user = admin_user

        assert lives.get_model_admin(Order).get_list_display(rf) == [
            *("pk", "shown_due", "state"),
            *("shown_age", "shown_failures"),
        ]
        assert lives.get_model_admin(BasicModel).get_list_display(rf) == [
            *("__str__", "shown_state", "shown_age", "shown_due", "shown_failures")
        ]


class TestBadge:
    @pytest.mark.parametrize(
        ("columns", "fares"),
        [
            ({}, "working"),
            ({"state": "deleted"}, "ended"),
            ({"state": "gone"}, "unknown"),
            ({"state_failures": 1}, "failing"),
            ({"state_failures": 5, "state_next": None}, "parked"),
            ({"state_failures": -1, "state_next": None}, "parked"),
        ],
    )
    def test_says_how_the_row_fares(self, admin_client, make_row, columns, fares):
        make_row(**columns)

        page = admin_client.get(URL)

        assert f'<span class="fsmworker-badge fsmworker-{fares}">' in page.text
        assert "django_fsmworker/admin.css" in page.text


class TestQueries:
    def fill(self, number):
        BasicModel.objects.bulk_create(BasicModel() for _ in range(number))

    @pytest.mark.parametrize("rows", [1, 100])
    def test_a_list_takes_as_many_for_a_hundred_rows_as_for_one(
        self, admin_client, django_assert_num_queries, rows
    ):
        self.fill(rows)

        # The session, the user, the count, the rows, and two for how many are in each state.
        with django_assert_num_queries(6):
            page = admin_client.get(URL)

        assert len(cells(page, "shown_due")) == rows


class TestStateFilter:
    def test_it_offers_the_labels_of_all_states_and_how_many_rows_are_there(
        self, admin_client, make_row
    ):
        for state in ("new", "new", "done", "old", "older"):
            make_row(state=state)

        page = admin_client.get(URL, {"state": "done", "_facets": "True"})

        assert choices(page, "state") == [
            *("All", "new (2)", "slow (0)", "done (1)", "timed_out (0)", "pending_delete (0)"),
            *("deleted (0)", "unknown to this version (2)"),
        ]

    def test_it_estimates_the_numbers_of_a_large_table(self, admin_client, make_row, monkeypatch):
        make_row()
        monkeypatch.setattr(status, "COUNTED", 0)
        monkeypatch.setattr(
            Statistics, "rows_by_state", lambda self, model: ({"new": 9_000_000}, True)
        )
        for vendor in Statistics.__subclasses__():
            monkeypatch.setattr(vendor, "rows_by_state", Statistics.rows_by_state)

        assert choices(admin_client.get(URL), "state")[1:3] == ["new (~9000000)", "slow (~0)"]

    def test_it_shows_no_numbers_of_a_large_part_of_a_table(
        self, admin_client, make_row, monkeypatch
    ):
        """Those of the whole table are not for everybody to see."""
        make_row()
        monkeypatch.setattr(status, "COUNTED", 0)
        own = lives.get_model_admin(BasicModel)
        monkeypatch.setattr(
            own, "get_queryset", lambda request: BasicModel.objects.filter(pk__gt=0)
        )

        assert choices(admin_client.get(URL), "state")[1:3] == ["new", "slow"]

    def test_it_counts_a_row_once_that_a_join_brings_twice(self, admin_client, monkeypatch):
        row = Delivery.objects.create()
        Receipt.objects.bulk_create(Receipt(delivery=row) for _ in range(2))
        own = Delivery.objects.filter(receipts__isnull=False).distinct()
        monkeypatch.setattr(lives.get_model_admin(Delivery), "get_queryset", lambda request: own)

        assert choices(admin_client.get("/lives/tests/delivery/"), "state")[1] == "pending (1)"

    def test_a_class_of_yours_takes_its_place_and_may_do_without_numbers(
        self, admin_client, make_row, monkeypatch, django_assert_num_queries
    ):
        class Plain(StateFilter):
            counts = False

        make_row()
        monkeypatch.setattr(lives.get_model_admin(BasicModel), "list_filter", [Plain])
        admin_client.get(URL)

        with django_assert_num_queries(4):
            page = admin_client.get(URL)

        assert choices(page, "state")[1:3] == ["new", "slow"]

    def test_it_shows_the_rows_in_the_chosen_state(self, admin_client, make_row):
        make_row()
        done = make_row(state="done")

        assert keys(admin_client.get(URL, {"state": "done"})) == [done.pk]

    def test_it_shows_the_rows_in_unknown_states(self, admin_client, make_row):
        make_row()
        old = make_row(state="old")

        assert keys(admin_client.get(URL, {"state": "_unknown"})) == [old.pk]

    def test_an_unknown_state_asked_for_shows_as_itself(self, admin_client, make_row):
        old = make_row(state="old")

        page = admin_client.get(URL, {"state": "old"})

        assert choices(page, "state")[-1] == "old (1)"
        assert keys(page) == [old.pk]


class TestDueFilter:
    @pytest.fixture
    def rows(self, make_row):
        held = {"state_claim": 5, "state_lease": ago(seconds=-60)}
        lapsed = {"state_claim": 5, "state_lease": ago(seconds=60)}
        return {
            "due": make_row(state_next=ago(seconds=9)),
            "suspect": make_row(state_next=ago(seconds=9), **lapsed),
            "running": make_row(state_next=ago(seconds=-60), **held),
            "waiting": make_row(state_next=ago(seconds=-60)),
            "done": make_row(state="done", state_next=None),
            "retried": make_row(state_next=ago(seconds=-60), state_failures=1),
            "parked": make_row(state_next=None, state_failures=5),
        }

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            ("now", ["due", "suspect"]),
            ("running", ["running"]),
            ("waiting", ["waiting", "retried"]),
            ("nothing", ["done"]),
            ("failing", ["retried", "parked"]),
            ("parked", ["parked"]),
            ("nonsense", ["due", "suspect", "running", "waiting", "done", "retried", "parked"]),
        ],
    )
    def test_it_shows_the_rows_of_the_chosen_kind(self, admin_client, rows, choice, expected):
        page = admin_client.get(URL, {"due": choice})

        assert keys(page) == [rows[name].pk for name in expected]

    def test_overdue_and_stranded(self, admin_client, make_row):
        late, lost = make_row(state_next=ago(seconds=90)), make_row(state_next=None)
        make_row(state_next=ago(seconds=9))

        assert keys(admin_client.get(URL, {"due": "overdue"})) == [late.pk]
        assert keys(admin_client.get(URL, {"due": "stranded"})) == [lost.pk]

    def test_every_row_is_in_one_of_the_first_four_or_parked(self, admin_client, rows):
        found = []
        for choice in ("now", "running", "waiting", "nothing", "parked"):
            found += keys(admin_client.get(URL, {"due": choice}))

        assert sorted(found) == sorted(row.pk for row in rows.values())

    def test_its_facets_count_the_rows(self, admin_client, rows):
        page = admin_client.get(URL, {"_facets": "True"})

        assert choices(page, "due") == [
            *("All", "Due now (2)", "Overdue (0)", "Paused (0)", "Running (1)"),
            "Waiting (2)",
            *("Nothing to do (1)", "Failing (2)", "Parked (1)", "Stranded (0)"),
        ]

    def test_paused(self, admin_client, make_row, rows):
        slow = make_row(state="slow", state_next=ago(seconds=-60))
        assert keys(admin_client.get(URL, {"due": "paused"})) == []

        pause(BasicModel, "slow", reason="rain")
        assert keys(admin_client.get(URL, {"due": "paused"})) == [slow.pk]

        pause(BasicModel, reason="snow")
        waiting = [rows[name].pk for name in ("due", "suspect", "waiting", "retried")]
        assert keys(admin_client.get(URL, {"due": "paused"})) == [*waiting, slow.pk]

    def test_rows_that_wait_for_a_guard(self, admin_client):
        """With or without a timeout; the others are where they would be without guards."""
        moments = {"held": ago(seconds=-60), "signing": None, "pending": ago(seconds=-60)}
        rows = {
            state: Delivery.objects.create(state=state, state_next=due)
            for state, due in moments.items()
        }
        failing = Delivery.objects.create(state="held", state_next=ago(seconds=-60))
        Delivery.objects.filter(pk=failing.pk).update(state_failures=1)

        found = {
            choice: keys(admin_client.get("/lives/tests/delivery/", {"due": choice}))
            for choice in ("guard", "waiting", "nothing", "parked")
        }

        assert set(found.pop("guard")) == {rows["held"].pk, rows["signing"].pk}
        assert set(found.pop("waiting")) == {rows["pending"].pk, failing.pk}
        assert found == {"nothing": [], "parked": []}

    def test_your_own_filters_replace_and_follow(self, rf):
        added = lives.get_model_admin(Order).get_list_filter(rf)

        assert [getattr(each, "__name__", each) for each in added] == [
            "DueFilter",
            ["state", admin.ChoicesFieldListFilter],
            "tracking",
        ]

    def test_a_manager_without_the_words_will_do(self, admin_client):
        Noop.objects.create()

        for choice in ("now", "running", "failing"):
            assert admin_client.get("/bare/tests/noop/", {"due": choice}).status_code == 200


def test_a_viewer_sees_the_list(visitor, make_row):
    make_row()

    page = visitor("tests.view_basicmodel").get(URL)

    assert cells(page, "shown_state") == ["new"]


def test_a_stranger_does_not_see_the_list(visitor):
    assert visitor().get(URL).status_code == 403


def test_the_list_has_nothing_inline(admin_client, make_row):
    make_row()

    assert inline_parts(admin_client.get(URL)) == []


def test_the_ready_class_can_be_registered_as_it_is():
    assert StatorModelAdmin(BasicModel, lives).check() == []
