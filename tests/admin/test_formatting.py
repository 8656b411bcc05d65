from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils.timezone import override

from django_fsmworker.admin.columns import next_due
from django_fsmworker.admin.formatting import at, duration
from testapp.models import Order, Webhook
from tests.app.models import BasicModel, Delivery

pytestmark = pytest.mark.once

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (299.9, "5 min"),
        (7_199, "120 min"),
        (7_200, "2 h"),
        (172_799, "48 h"),
        (3 * 86_400 - 26, "3 d"),
        (400 * 86_400, "400 d"),
    ],
)
def test_a_duration_is_told_in_its_largest_unit(seconds, words):
    assert duration(seconds) == words


def test_at_shows_the_moment_in_the_local_time_zone():
    with override("Europe/Berlin"):
        assert at("<then>", NOW) == (
            '<time datetime="2026-05-04T12:00:00+00:00" title="May 4, 2026, 14:00:00">'
            "&lt;then&gt;</time>"
        )


def due(model=BasicModel, **columns):
    html = next_due(model(**{"state": "new", "state_next": None, **columns}), NOW)
    return html and html.partition(">")[2].removesuffix("</time>") or html


def seconds(number):
    return NOW + timedelta(seconds=number)


class TestNextDue:
    def test_in_the_future(self):
        assert due(state_next=seconds(300)) == "in 5 min"

    def test_a_row_that_is_due_is_due_now(self):
        assert due(state_next=NOW) == "due now"

    def test_in_the_past(self):
        assert due(state_next=seconds(-180)) == "overdue 3 min"

    def test_running_while_a_lease_holds(self):
        assert due(state_next=NOW, state_claim=7, state_lease=seconds(9)) == "running"

    def test_due_again_once_the_lease_has_lapsed(self):
        assert due(state_next=seconds(-180), state_claim=7, state_lease=NOW) == "overdue 3 min"

    @pytest.mark.parametrize(
        ("due_in", "words"),
        [(240, "failing: 3 attempts, in 4 min"), (-12, "failing: 3 attempts, overdue 12 s")],
    )
    def test_failing(self, due_in, words):
        assert due(state_next=seconds(due_in), state_failures=3) == words

    def test_a_manual_row_times_out(self):
        sent = {"state": "sent", "state_changed": NOW, "state_next": seconds(86400)}
        assert due(Webhook, **sent) == "times out in 24 h"

    @pytest.mark.parametrize(("due_in", "words"), [(30, "in 30 s"), (3600, "times out in 60 min")])
    def test_a_checked_row_times_out_if_that_is_before_its_next_check(self, due_in, words):
        assert due(Order, state_changed=NOW, state_next=seconds(due_in)) == words

    def test_parked_after_failures(self):
        assert due(state_failures=5) == "parked"

    def test_stranded_in_an_automatic_state(self):
        assert due() == "stranded"

    @pytest.mark.parametrize(
        ("state_next", "words"),
        [
            (None, "when a guard is true"),
            (seconds(300), "when a guard is true, or in 5 min"),
            (NOW, "when a guard is true, or due now"),
        ],
    )
    def test_a_swept_row_waits_for_its_guards_or_its_timeout(self, state_next, words):
        """What is due is its timeout."""
        assert due(model=Delivery, state="held", state_next=state_next) == words

    @pytest.mark.parametrize(
        ("state_next", "words"),
        [(None, "parked"), (seconds(300), "failing: 1 attempt, in 5 min")],
    )
    def test_swept_and_failing(self, state_next, words):
        assert due(Delivery, state="held", state_next=state_next, state_failures=1) == words

    def test_guards_beside_a_check(self):
        assert due(Delivery, state="pending", state_next=seconds(300)) == "in 5 min"

    @pytest.mark.parametrize("state", ["done", "timed_out", "weird"])
    def test_nothing_to_do(self, state):
        assert due(state=state) is None

    def test_a_state_that_nobody_knows_may_be_due(self):
        assert due(state="weird", state_next=seconds(-180)) == "overdue 3 min"
