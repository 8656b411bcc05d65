"""The graph of a model in the admin: rows on their states, rates on their transitions."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from django_fsmworker import clock
from django_fsmworker.diagnosis import flow, status
from django_fsmworker.models import TransitionRecord
from django_fsmworker.models.keys import log_digest
from tests.admin.pages import inline_parts
from tests.app.models import Account

pytestmark = pytest.mark.django_db(databases=["default", "other"])

PAGE = "/lives/tests/basicmodel/graph/"
LOGGED = "/lives/tests/account/graph/"

# So long that a rate is the same, however slow the test is.
AGO = 10_000


def table(page: Any, name: str) -> list[list[str]]:
    """The cells of one of its tables, row by row."""
    _, _, rest = page.text.partition(f'id="fsmworker-graph-{name}"')
    rows = re.findall(r"<tr>(.*?)</tr>", rest.partition("</section>")[0], re.S)
    return [
        [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[dh].*?</t[dh]>", row)]
        for row in rows
    ]


def moved(row: Account, source: str, target: str, **columns: Any) -> None:
    """An entry in the log of transitions."""
    TransitionRecord.objects.create(
        **{
            "model": "tests.Account",
            "row": str(row.pk),
            "digest": log_digest(str(row.pk)),
            "source": source,
            "target": target,
            "at": clock.now() - timedelta(seconds=AGO),
            "duration": timedelta(seconds=30),
            "cause": "event",
            "trigger": "freeze",
            **columns,
        }
    )


class TestMap:
    def test_states_show_and_list_their_rows(self, admin_client, make_row):
        make_row(state_next=clock.now() - timedelta(minutes=5))
        make_row(state_next=None, state_failures=2)
        make_row(state="done", state_next=None)

        page = admin_client.get(PAGE)

        assert (
            '<a class="fsmworker-state fsmworker-is-checked fsmworker-is-failing" '
            'href="/lives/tests/basicmodel/?state=new" '
            'aria-label="new: 2 rows, 1 due, 1 failing, 1 parked">'
        ) in page.text
        assert "1 due · 1 failing · 1 parked</text>" in page.text
        assert table(page, "states")[1:4] == [
            ["new", "2", "1", "5 min", "0", "1", "1"],
            ["slow", "0", "0", "", "0", "0", "0"],
            ["done", "1", "0", "", "0", "0", "0"],
        ]

    @pytest.mark.once
    def test_leads_to_a_list_that_shows_just_those_rows(self, admin_client, make_row):
        make_row()
        done = make_row(state="done", state_next=None)

        listed = admin_client.get("/lives/tests/basicmodel/?state=done")

        assert [row.pk for row in listed.context["cl"].result_list] == [done.pk]

    @pytest.mark.once
    def test_nothing_of_it_is_inline(self, admin_client, make_row):
        make_row()

        page = admin_client.get(PAGE)

        assert 'class="fsmworker-map' in page.text
        assert inline_parts(page) == []
        assert "django_fsmworker/diagram.css" in page.text

    @pytest.mark.once
    def test_rows_in_a_state_that_the_graph_lacks_are_named(self, admin_client, make_row):
        make_row(state="<old>", state_next=None)

        page = admin_client.get(PAGE)

        assert "1 in the state &lt;old&gt;, which the graph does not declare" in page.text
        assert "?state=%3Cold%3E" in page.text

    @pytest.mark.once
    def test_without_the_package_there_is_the_table(self, admin_client, make_row, monkeypatch):
        monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
        make_row()

        page = admin_client.get(PAGE)

        assert 'class="fsmworker-map' not in page.text
        assert "install django-fsmworker[diagrams]" in page.text
        assert table(page, "states")[1][:2] == ["new", "1"]

    @pytest.mark.once
    def test_refreshes_itself_if_it_is_asked_to(self, admin_client):
        assert "http-equiv" not in admin_client.get(PAGE).text
        assert 'content="15"' in admin_client.get(f"{PAGE}?refresh=15").text

    def test_of_a_large_table_it_tells_estimates(self, admin_client, make_row, monkeypatch):
        monkeypatch.setattr(status, "COUNTED", 1)
        monkeypatch.setattr(status, "WALKED", 1)
        for _ in range(3):
            make_row(state_next=clock.now() - timedelta(minutes=5))

        page = admin_client.get(PAGE)

        assert "Numbers with a ~ are estimates." in page.text
        assert table(page, "states")[1][2].startswith("~")


class TestTransitions:
    def test_rate_and_stay_come_from_the_log(self, admin_client):
        account = Account.objects.create()
        for seconds in range(1, 101):
            moved(account, "open", "frozen", duration=timedelta(seconds=seconds))
        moved(account, "open", "frozen", at=clock.now(), duration=None)

        page = admin_client.get(LOGGED)

        [line] = [line for line in table(page, "moves") if line[:2] == ["open", "frozen"]]
        assert line == ["open", "frozen", "event: freeze", "36/h", "50 s", "95 s"]
        assert "p50 50 s · p95 95 s</text>" in page.text
        assert "From the newest 101 entries of the log, within 3 h." in page.text

    def test_each_event_has_its_own(self, admin_client):
        account = Account.objects.create(state="frozen")
        moved(account, "frozen", "open", trigger="melt")

        lines = table(admin_client.get(LOGGED), "moves")

        assert ["frozen", "open", "event: thaw", "", "", ""] in lines
        assert ["frozen", "open", "event: melt", "8.6/d", "30 s", "30 s"] in lines

    def test_moves_by_code_count_for_the_edge_between_the_states(self, admin_client):
        moved(Account.objects.create(), "checking", "open", cause="forced", trigger="")
        moved(Account.objects.create(), "closed", "open", cause="forced", trigger="")

        lines = table(admin_client.get(LOGGED), "moves")

        assert ["checking", "open", "check", "8.6/d", "30 s", "30 s"] in lines
        assert ["closed", "open", "by code, undeclared", "8.6/d", "30 s", "30 s"] in lines

    def test_of_other_models_they_are_left_out(self, admin_client):
        moved(Account.objects.create(), "open", "frozen", model="tests.Letter")

        assert "There is no recent transition in the log." in admin_client.get(LOGGED).text

    def test_the_newest_entries_are_used(self, admin_client, monkeypatch):
        monkeypatch.setattr(flow, "USED", 2)
        account = Account.objects.create()
        for seconds in (90, 40, 30):
            moved(account, "open", "frozen", duration=timedelta(seconds=seconds))

        page = admin_client.get(LOGGED)

        assert ["open", "frozen", "event: freeze", "17/d", "30 s", "40 s"] in table(page, "moves")

    @pytest.mark.once
    def test_a_model_without_a_log_says_so(self, admin_client):
        page = admin_client.get(PAGE)

        assert "the model has no log of transitions" in page.text
        assert table(page, "moves")[0] == ["from", "to", "by"]


class TestWhoSees:
    @pytest.mark.once
    def test_it_takes_the_permission_to_view_rows(self, visitor):
        assert visitor().get(PAGE).status_code == 403

    @pytest.mark.once
    def test_that_is_enough(self, visitor):
        client = visitor("tests.view_basicmodel")

        assert client.get(PAGE).status_code == 200
        assert f'<a href="{PAGE}">Graph</a>' in client.get("/lives/tests/basicmodel/").text

    def test_rows_that_an_admin_does_not_show_are_not_counted(self, admin_client, make_row):
        make_row(ready=True)
        make_row()

        page = admin_client.get("/part/tests/basicmodel/graph/")

        assert table(page, "states")[1][:2] == ["new", "1"]

    def test_of_many_of_them_the_first_are_counted(self, admin_client, make_row, monkeypatch):
        monkeypatch.setattr(status, "COUNTED", 1)
        monkeypatch.setattr(status, "WALKED", 2)
        for _ in range(3):
            make_row(ready=True, state_next=None)
        make_row(ready=True, state="done", state_next=None)

        lines = table(admin_client.get("/part/tests/basicmodel/graph/"), "states")

        assert [line[:2] for line in lines[1:4]] == [["new", "~2"], ["slow", "0"], ["done", "1"]]

    def test_nor_are_their_transitions(self, admin_client):
        moved(Account.objects.create(balance=5), "open", "frozen")
        moved(Account.objects.create(), "open", "frozen")

        page = admin_client.get("/part/tests/account/graph/")

        assert "From the newest entry of the log" in page.text

    def test_rows_of_another_database(self, admin_client, make_row):
        make_row(using="other")

        page = admin_client.get("/elsewhere/tests/basicmodel/graph/")

        assert table(page, "states")[1][:2] == ["new", "1"]

    @pytest.mark.parametrize("name", ["parentkind", "childkind", "proxykind", "invoicekind"])
    def test_every_kind_of_model_has_one(self, admin_client, name):
        assert admin_client.get(f"/kinds/tests/{name}/graph/").status_code == 200


@pytest.mark.once
class TestLinks:
    def test_the_dashboard_leads_to_it(self, admin_client):
        page = admin_client.get("/lives/django_fsmworker/worker/stator/")

        assert f'(<a href="{PAGE}">graph</a>' in page.text

    def test_a_popup_of_the_list_does_not(self, admin_client):
        page = admin_client.get("/lives/tests/basicmodel/?_popup=1")

        assert PAGE not in page.text


@pytest.mark.parametrize("address", [LOGGED, "/part/tests/account/graph/"])
def test_queries_do_not_grow_with_what_it_shows(admin_client, address):
    def asked() -> int:
        with CaptureQueriesContext(connections["default"]) as queries:
            assert admin_client.get(address).status_code == 200
        return len(queries)

    moved(Account.objects.create(balance=1), "open", "frozen")
    asked()
    before = asked()
    for _ in range(20):
        moved(Account.objects.create(balance=1, state="frozen"), "frozen", "open", trigger="thaw")

    assert asked() == before <= 9
