"""Pages over large tables: a bounded number of queries, each over a bounded number of rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_fsmworker.admin import long_lists
from django_fsmworker.models import BulkAction, FailureRecord
from django_fsmworker.store.postgresql import statistics as postgresql
from tests.admin.large import empty, fill, measured_work

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db, pytest.mark.timeout(900)]

# What the request itself takes besides the page: session and user.
LOGIN = 2
# Rows that one query may look at: those that are counted, and what is left out on the way to them,
# as a fifth of the rows is due. Of the short form's tables it is less than all.
LOOKED_AT = 110_000
# No index has the failures. What asks for all of them walks until it has found enough, and where
# the planner takes that for cheap, as in the short form, over the whole table.
WALKED = ["preview for failing", "group of failures"]
if django.VERSION < (6, 1):
    # Django's own search takes the key of each row for a text, whatever its type.
    WALKED.append("search by key")
ROWS, FAILURES = "/lives/tests/account/", "/lives/django_fsmworker/failurerecord/"
TRANSITIONS, EVENTS, WORKERS = (
    f"/lives/django_fsmworker/{name}/" for name in ("transitionrecord", "event", "worker")
)
GROUP = {"model": "tests.Account", "state": "checking", "error": "KeyError"}
RETRY = {"action": "state_retry_rows", "select_across": "1", "_selected_action": ["1"]}

# Each page with the most queries that it takes.
PAGES = {
    "list": (ROWS, 7),
    "list by state": (f"{ROWS}?state=checking", 7),
    "list of due": (f"{ROWS}?due=now", 16),
    "list of failing": (f"{ROWS}?due=failing", 9),
    "list of parked": (f"{ROWS}?due=parked", 9),
    "list of running": (f"{ROWS}?due=running", 16),
    "list of waiting": (f"{ROWS}?due=waiting", 16),
    "list of overdue": (f"{ROWS}?due=overdue", 16),
    "list of stranded": (f"{ROWS}?due=stranded", 9),
    "list of those with nothing to do": (f"{ROWS}?due=nothing", 9),
    "list of unknown": (f"{ROWS}?state=_unknown", 16),
    "list by state, the oldest first": (f"{ROWS}?state=checking&o=-3", 10),
    "list in the order of states": (f"{ROWS}?o=2", 10),
    "list in the order of due times": (f"{ROWS}?o=4", 10),
    "list in the order of failures": (f"{ROWS}?o=-5", 10),
    "list with counts": (f"{ROWS}?_facets=True", 9),
    "search by key": (f"{ROWS}?q={{row}}", 7),
    "last page of the list": (f"{ROWS}?p=200", 7),
    "page of a row": (f"{ROWS}{{row}}/change/", 13),
    "graph": (f"{ROWS}graph/", 24),
    "dashboard": (f"{WORKERS}stator/", 45),
    "failures": (FAILURES, 7),
    "failures still there": (f"{FAILURES}?resolved=no&model=tests.Account", 7),
    "failures of a row": (f"{FAILURES}?q={{row}}", 7),
    "failure": (f"{FAILURES}{{failure}}/change/", 7),
    "events": (EVENTS, 7),
    "events that wait": (f"{EVENTS}?state=pending", 7),
    "transitions": (TRANSITIONS, 7),
    "transitions of a row": (f"{TRANSITIONS}?q=77", 7),
    "workers": (f"{WORKERS}?o=1", 7),
    "group of failures": (f"{WORKERS}stator/failures/retry/", 3),
    "preview for all": (ROWS, 7),
    "preview for failing": (f"{ROWS}?due=failing", 9),
    "confirmed for all": (ROWS, 14),
}
each_page = pytest.mark.parametrize("page", PAGES)


@pytest.fixture(scope="module", params=[200_000, pytest.param(10_000_000, marks=pytest.mark.long)])
def number(request: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[int]:
    with django_db_blocker.unblock():
        try:
            fill(request.param)
            yield request.param
        finally:
            empty()


@pytest.fixture(autouse=True)
def long_walks(number: int, monkeypatch: Any) -> None:
    """In the short form a walk over the table is long, too."""
    if number < 1_000_000:
        monkeypatch.setattr(postgresql, "LONG_WALK", 500)
        monkeypatch.setattr(long_lists, "NEWEST", 20_000)


def opened(client: Client, page: str) -> Any:
    address = PAGES[page][0]
    if "{" in address:
        failure = FailureRecord.objects.latest("last_seen")
        address = address.format(row=failure.row, failure=failure.pk)
    if page == "group of failures":
        return lambda: client.post(address, GROUP)
    if page.startswith("preview"):
        return lambda: client.post(address, RETRY)
    if page.startswith("confirmed"):
        return lambda: client.post(address, {**RETRY, "confirmed": "1"}, follow=True)
    return lambda: client.get(address)


@each_page
def test_a_page_sends_few_queries_that_look_at_few_rows(
    admin_client: Client, number: int, page: str
) -> None:
    look = opened(admin_client, page)

    # What explains a query is not counted as another one.
    with CaptureQueriesContext(connection) as queries, measured_work() as work:
        answer = look()
    sent = len(queries) - LOGIN

    print(f"{page}: {sent} queries, {work.most[0]} rows")
    assert answer.status_code == 200
    assert BulkAction.objects.exists() is page.startswith("confirmed")
    assert sent <= PAGES[page][1]
    assert page in WALKED or work.most[0] <= min(LOOKED_AT, number * 2 // 5), work.most


@pytest.mark.long
@each_page
def test_a_page_answers_in_half_a_second(admin_client: Client, number: int, page: str) -> None:
    look = opened(admin_client, page)
    taken = []

    for _ in range(3):
        since = time.perf_counter()
        look()
        taken.append(time.perf_counter() - since)

    print(f"{page} of {number}: {statistics.median(taken) * 1000:.0f} ms")
    assert statistics.median(taken) < 0.5
