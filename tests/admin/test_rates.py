"""How many attempts of a model end in a minute, on the dashboard."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from django_fsmworker import clock
from django_fsmworker.admin.rates import past_rates
from django_fsmworker.models import StatorLog
from tests.admin.pages import inline_parts
from tests.admin.test_dashboard import PAGE, section, worker

pytestmark = pytest.mark.django_db(databases=["default", "other"])

LABEL = "tests.BasicModel"


def summary(minutes: float, using: str = "default", **columns: Any) -> None:
    """What a runner wrote so many minutes ago."""
    until = clock.now() - timedelta(minutes=minutes)
    own = {"model": LABEL, "worker": "w", "since": until - timedelta(minutes=1), "until": until}
    StatorLog.objects.using(using).create(**{**own, **columns})


def pace(state: str, per_minute: float) -> dict[str, Any]:
    return {"model": LABEL, "state": state, "per_minute": per_minute, "times": {}}


def part_of(page: Any) -> str:
    """What the dashboard says of the model."""
    found = re.search(rf'<tr class="fsmworker-total">\s*<th[^>]*><a[^>]*>{LABEL}<.*?</tbody>',
                      section(page, "models"), re.S)  # fmt: skip
    assert found is not None
    return found.group()


class TestPast:
    def test_attempts_of_all_workers_that_ended_are_added_up_by_their_time(self):
        summary(3, moved=10, stayed=20, failed=3, overran=1, timed_out=1, superseded=99)
        summary(4, moved=15, worker="another")
        summary(120, moved=5)

        rates = past_rates("default")[LABEL]

        assert len(rates) == 24
        assert (rates[0], rates[-1]) == (1.0, 10.0)
        assert sum(rates) == 11.0

    def test_what_is_older_or_is_not_all_known_yet_is_left_out(self):
        summary(122, moved=1)
        summary(0.5, moved=1)

        assert past_rates("default") == {}

    def test_each_database_has_its_own(self):
        summary(3, using="other", moved=5)

        assert past_rates("default") == {}
        assert past_rates("other")[LABEL][-1] == 1.0


class TestLine:
    def test_it_is_drawn_with_its_meaning_in_words(self, admin_client):
        summary(3, moved=240)
        summary(8, moved=120)

        page = admin_client.get(PAGE)
        text = part_of(page)

        said = "In the last two hours at most 48 a minute, on average 3"
        assert f'role="img" width="94" height="20" viewBox="0 0 94 20"><title>{said}' in text
        assert text.count("<svg") == 1
        assert '85,19.0 89,10.0 93,1.0"/>' in text
        assert inline_parts(page) == []

    def test_without_summaries_nothing_is_drawn(self, admin_client):
        summary(3, due=5)
        summary(3, moved=5, model="tests.Account")

        text = part_of(admin_client.get(PAGE))

        assert "<svg" not in text


class TestNow:
    def test_the_paces_of_living_workers_are_added_up(self, admin_client, make_row):
        make_row(state="new")
        worker(id="a@box", pace=[pace("new", 60.0), pace("done", 3.5)])
        worker(id="b@box", pace=[pace("new", 6.0)])
        worker(id="c@box", pace=[pace("new", 500.0)], expires=clock.now() - timedelta(minutes=1))

        text = part_of(admin_client.get(PAGE))

        assert re.findall(r'<td class="fsmworker-number"[^>]*>([\d.]*)</td>\s*</tr>', text) == [
            "70", "66"
        ]  # fmt: skip


@pytest.mark.parametrize("using", ["default", "other"])
def test_as_many_queries_for_many_models_and_workers_as_for_none(admin_client, using):
    def asked() -> int:
        with CaptureQueriesContext(connections[using]) as queries:
            admin_client.get(PAGE)
        return len(queries)

    admin_client.get(PAGE)
    before = asked()
    for number in range(20):
        worker(id=f"orders.{number}@box", pace=[pace("new", 60.0)])
        summary(number, moved=5, using=using)
        summary(number, moved=5, model="tests.Account", using=using)

    assert asked() == before
