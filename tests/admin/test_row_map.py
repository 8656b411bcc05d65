"""The graph on top of a row's page: where the row is, and the way that it took."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from django_fsmworker.admin.row_map import row_map
from django_fsmworker.admin.timeline import Step, timeline
from tests.admin.pages import inline_parts
from tests.app.models import Account, Parcel

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]


def states(text: Any, tone: str) -> list[str]:
    """The states of that tone, by what is said of them."""
    return re.findall(rf'fsmworker-is-{tone}">\s*<title>([^<]*)</title>', text)


def passed(text: Any) -> int:
    return int(text.count(' fsmworker-passed">\n<path'))


def test_state_and_way_are_marked(admin_client):
    account = Account.objects.create()
    account.state_send("freeze")

    page = admin_client.get(f"/lives/tests/account/{account.pk}/change/")

    assert [each[:16] for each in states(page.text, "current")] == ["frozen: here for"]
    assert states(page.text, "passed") == ["open: was here"]
    assert passed(page.text) == 1
    assert inline_parts(page) == []


def test_a_history_tells_the_way_where_there_is_no_log(monkeypatch):
    monkeypatch.setattr(Account, "log_transitions", False)
    account = Account.objects.create()
    account.state_send("freeze")
    account.refresh_from_db()

    text = row_map(account, timeline(account))

    assert states(text, "passed") == ["open: was here"]
    assert passed(text) == 1


def test_a_row_without_a_past_has_its_state_only(make_row):
    text = row_map(make_row(), [])

    assert len(states(text, "current")) == 1
    assert not states(text, "passed")


def test_a_row_in_a_state_that_the_graph_lacks(make_row):
    text = row_map(make_row(state="<old>", state_next=None), [])

    assert not states(text, "current")


def test_of_a_large_graph_the_part_round_the_row_is_shown():
    parcel = Parcel.objects.create(state="plain")
    step = Step(at="", source="new", target="plain", cause="forced")

    text = str(row_map(parcel, [step]))

    names = re.findall(r'<text class="fsmworker-name"[^>]*>([^<]*)<', text)
    assert names == ["new", "plain", "sent"]


def test_without_the_package_the_page_has_none(admin_client, make_row, monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)

    page = admin_client.get(f"/lives/tests/basicmodel/{make_row().pk}/change/")

    assert page.status_code == 200
    assert 'class="fsmworker-map' not in page.text
